"""What litellm is asked: a fresh set of keywords, of which the caller fills in only those on a list.

Every keyword of litellm's steers something, so nothing is passed on by default. Nothing inside messages, tools and
schemas is ever altered; forms that would not arrive are refused in `litellm_forms.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import UpstreamProtocolError, UpstreamRejected
from gateway.providers.base import Exchange
from gateway.providers.litellm_forms import check_forms
from gateway.providers.litellm_images import IMAGE_FIELDS
from gateway.providers.litellm_schemas import check_schemas
from gateway.providers.settings import LiteLLMSettings
from gateway.wire import STEERING

# OpenAI's fields, without `user` and `metadata`: litellm reads these itself, as the names of its own accounts.
_CHAT = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "verbosity",
        "web_search_options",
    ]
)
_FIELDS: Mapping[str, frozenset[str]] = {
    "chat/completions": _CHAT,
    "embeddings": frozenset({"dimensions", "input"}),  # floats are asked for, and put into base64 here if need be
    "images/generations": IMAGE_FIELDS,
}
_KNOWN_TO_ALL = frozenset({"input", "messages", "prompt"})
_SETS_ALONE = frozenset({"metadata", "model", "stream", "stream_options", "user"})
# What leaving out a field means the same as, so that no upstream refuses a field for nothing.
_IDLE: Mapping[str, Any] = {"n": 1, "logprobs": False, "store": False, "stop": [], "tools": [], "functions": []}
# What litellm puts behind the base URL by itself, though bases usually end in it.
_APPENDED: Mapping[str, str] = {"anthropic": "/v1"}
_NO_MEDIA = frozenset({"function_call", "name", "role", "tool_call_id", "tool_calls"})
_ADDRESS = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:/|//|files/)")
_NAMES_A_FILE = re.compile(r"\s*(?:files/|gs://|data:|https?://generativelanguage\.googleapis\.com/)", re.IGNORECASE)
_TAKES_TOKENS = frozenset({"azure", "openai"})


def keywords(exchange: Exchange, settings: LiteLLMSettings) -> dict[str, Any]:
    """Return the keywords of the litellm function for `exchange`, owned by the one that passes them on.

    Raises UpstreamRejected for what this provider can never be asked, UpstreamProtocolError for an endpoint that is
    not spoken to in this way.
    """
    fields = _caller_fields(exchange)
    if exchange.endpoint == "embeddings":
        _refuse_tokens(fields.get("input"), settings.prefix)
        _refuse_files(fields.get("input"))
    _refuse_addresses(fields.get("messages"))
    if exchange.endpoint == "chat/completions":
        check_forms(fields, settings.prefix, exchange.model)
        check_schemas(fields)
    seconds = exchange.patience.total_seconds
    made = {
        **fields,
        **{name: value.get_secret_value() for name, value in settings.options.items()},
        "model": f"{settings.prefix}/{exchange.model}",
        "num_retries": 0,
        "max_retries": 0,
        "no-log": True,
        "timeout": seconds,
    }
    if key := settings.api_key.get_secret_value():
        made["api_key"] = key
    if settings.base_url is not None:
        made["api_base"] = settings.base_url.removesuffix(_APPENDED.get(settings.prefix, ""))
    if settings.headers:
        made["extra_headers"] = {name: value.get_secret_value() for name, value in settings.headers.items()}
    if "tools" in made:
        made["_skip_mcp_handler"] = True  # else tools are looked at by a proxy server that is not installed
    if streams(exchange):
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    return made


def streams(exchange: Exchange) -> bool:
    """Tell whether litellm is asked for a stream; images it has whole only, and they are made a stream of afterwards."""
    return exchange.stream and exchange.endpoint != "images/generations"


def unmapped(made: Mapping[str, Any], endpoint: str, mapped: frozenset[str]) -> list[str]:
    """Return the fields in `made` that litellm would refuse by itself, for they are the upstream's to judge.

    `mapped` are those it has words of the upstream for: naming these too would send them twice.
    """
    return sorted((made.keys() & _FIELDS[endpoint]) - _KNOWN_TO_ALL - mapped)


def _caller_fields(exchange: Exchange) -> dict[str, Any]:
    known = _FIELDS.get(exchange.endpoint)
    if known is None:
        raise UpstreamProtocolError(f"This upstream does not serve /{exchange.endpoint}.")
    wanted = known | (exchange.allowed_extra - STEERING - _SETS_ALONE)
    return {
        name: _own(value)
        for name, value in exchange.body.items()
        if name in wanted and value is not None and not _is_idle(name, value)
    }


def _is_idle(name: str, value: Any) -> bool:
    return name in _IDLE and type(value) is type(_IDLE[name]) and value == _IDLE[name]


def _own(value: Any) -> Any:
    """Copy lists and objects, because litellm changes them in place and another deployment may be asked after it."""
    if isinstance(value, dict):
        return {name: _own(inner) for name, inner in value.items()}
    return [_own(inner) for inner in value] if isinstance(value, list) else value


def _refuse_tokens(given: Any, prefix: str) -> None:
    first = given[0] if isinstance(given, list) and given else None
    if isinstance(first, int | list) and prefix not in _TAKES_TOKENS:
        raise UpstreamRejected(
            "This model takes text, not the tokens of another model's vocabulary. Send strings in 'input' "
            "(LangChain: check_embedding_ctx_length=False).",
            param="input",
        )


def _refuse_files(given: Any) -> None:
    """Refuse what litellm would take for a file in the account behind our key, and look up."""
    texts = given if isinstance(given, list) else [given]
    if any(isinstance(text, str) and _NAMES_A_FILE.match(text) for text in texts):
        raise UpstreamRejected(
            "A text cannot begin like the name of a stored file or a data: URL here.",
            param="input",
            code="invalid_value",
        )


def _refuse_addresses(messages: Any) -> None:
    """Refuse media that are named instead of sent: litellm would fetch them from inside the gateway's network."""
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        parts = [value for name, value in message.items() if name not in _NO_MEDIA and not isinstance(value, str)]
        if any(_names_media(part) for part in parts):
            raise UpstreamRejected(
                "This upstream takes media as data: URLs only; the gateway fetches nothing for a caller.",
                param=f"messages[{index}].content",
                code="invalid_image_url",
            )


def _names_media(value: Any) -> bool:
    if isinstance(value, list):
        return any(_names_media(inner) for inner in value)
    if isinstance(value, dict):
        if value.get("type") == "text":
            value = {name: inner for name, inner in value.items() if name != "text"}
        return "file_id" in value or any(_names_media(inner) for inner in value.values())
    return isinstance(value, str) and _ADDRESS.match(value) is not None
