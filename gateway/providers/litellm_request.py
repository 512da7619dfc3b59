"""What litellm is asked: a fresh set of keywords, of which the caller fills in only those on a list.

Every keyword of litellm's steers something, so nothing is passed on by default. Nothing that messages, tools and
schemas say is ever altered; turns are put for their wire in `litellm_turns.py`, forms that would not arrive are refused
in `litellm_forms.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import EndpointNotServed, UpstreamRejected, UpstreamUnavailable
from gateway.providers.base import Exchange
from gateway.providers.litellm_files import settle_files
from gateway.providers.litellm_forms import check_forms
from gateway.providers.litellm_images import IMAGE_FIELDS
from gateway.providers.litellm_media import check_media
from gateway.providers.litellm_parameters import check_parameters
from gateway.providers.litellm_schemas import check_schemas, check_size
from gateway.providers.litellm_turns import settle_turns
from gateway.providers.settings import LiteLLMSettings
from gateway.wire import CHAT_FIELDS, STEERING

# What is said in another way, and two that litellm reads itself, as the names of its own accounts.
_SETS_ALONE = frozenset({"metadata", "model", "stream", "stream_options", "user"})
SENT_FIELDS = CHAT_FIELDS - _SETS_ALONE
_FIELDS: Mapping[str, frozenset[str]] = {
    "chat/completions": SENT_FIELDS,
    "embeddings": frozenset({"dimensions", "input"}),  # floats are asked for, and put into base64 here if need be
    "images/generations": IMAGE_FIELDS,
}
_KNOWN_TO_ALL = frozenset({"input", "messages", "prompt"})
# What leaving out a field means the same as, so that no upstream refuses a field for nothing.
_IDLE: Mapping[str, Any] = {"n": 1, "logprobs": False, "store": False, "stop": [], "tools": [], "functions": []}
# What litellm puts behind the base URL by itself, though bases usually end in it.
_APPENDED: Mapping[str, str] = {"anthropic": "/v1"}
# What an upstream is given our account's own file for, instead of the text.
_NAMES_A_FILE: Mapping[str, re.Pattern[str]] = {
    "bedrock": re.compile(r"\s*s3://", re.IGNORECASE),
    **dict.fromkeys(
        ("gemini", "vertex_ai"),
        re.compile(
            r"\s*(?:files/|gs://|data:.*;base64,|https?://generativelanguage\.googleapis\.com/)",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
}
# Those that are asked with an account of a cloud where there is no key; any word in its place would be taken for one.
_HAS_ACCOUNTS = frozenset({"bedrock", "bedrock_mantle", "vertex_ai"})
_NO_CREDENTIALS = frozenset({"api_version"})
_ON_THIS_MACHINE = frozenset({"docker_model_runner", "langflow", "langgraph", "llamafile", "xinference"})
_NO_KEY = "none"
_TAKES_TOKENS = frozenset({"azure", "openai"})


def keywords(exchange: Exchange, settings: LiteLLMSettings) -> dict[str, Any]:
    """Return the keywords of the litellm function for `exchange`, owned by the one that passes them on.

    Raises UpstreamRejected for what this provider can never be asked, EndpointNotServed for an endpoint that is
    not spoken to in this way.
    """
    fields = _checked_fields(exchange, settings.prefix)
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
    if key := _key(settings):
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


def _checked_fields(exchange: Exchange, prefix: str) -> dict[str, Any]:
    is_chat = exchange.endpoint == "chat/completions"
    if is_chat:
        check_size(exchange.body)
    fields = _caller_fields(exchange)
    if exchange.endpoint == "embeddings":
        _refuse_tokens(fields.get("input"), prefix)
        _refuse_files(fields.get("input"), prefix)
    check_media(fields.get("messages"))
    if is_chat:
        check_forms(fields, prefix, exchange.model)
        check_schemas(fields)
        check_parameters(fields, prefix, exchange.model)
        settle_files(fields, prefix, exchange.model)
        settle_turns(fields, prefix, exchange.model)
    return fields


def _key(settings: LiteLLMSettings) -> str:
    """Return the key, for a server that may ask for none a word in its place: litellm's clients do not go without.

    Raises UpstreamUnavailable where the provider's own endpoint would be asked by nobody.
    """
    key = settings.api_key.get_secret_value()
    if key or settings.prefix in _HAS_ACCOUNTS or settings.options.keys() - _NO_CREDENTIALS:
        return key
    if settings.base_url is None and not settings.headers and settings.prefix not in _ON_THIS_MACHINE:
        raise UpstreamUnavailable(
            "The upstream cannot be asked: it has no api_key in the configuration.", code="provider_misconfigured"
        )
    return _NO_KEY


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
        raise EndpointNotServed(exchange.endpoint)
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


def _refuse_files(given: Any, prefix: str) -> None:
    """Refuse what litellm would take for a file in the account behind our key, and look up."""
    names_a_file = _NAMES_A_FILE.get(prefix)
    texts = given if isinstance(given, list) else [given]
    if names_a_file and any(isinstance(text, str) and names_a_file.match(text) for text in texts):
        raise UpstreamRejected(
            "A text cannot begin like the name of a stored file or a data: URL here.",
            param="input",
            code="invalid_value",
        )
