"""Which request fields reach a local model: an allow-list, with the range of each number.

llama.cpp's server has fields of its own that choose slots, replace templates or size its buffers; one request could
take the memory of the machine with them. What OpenAI documents and common sampling settings pass; fields that would
change how the engine works, or change the answer elsewhere and not here, are refused by name; anything else is no
concern of the engine's and stays here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import InvalidRequest
from gateway.providers.llamacpp_grammars import check_forms

LONGEST_LOOK_BACK = 8192  # tokens; penalties keep a buffer of this size for each request

_WRITTEN = frozenset(
    {
        "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "seed",
        "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "response_format", "grammar",
        "json_schema", "ignore_eos", "cache_prompt", "timings_per_token",
    }
)  # fmt: skip
_PASSED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "chat/completions": _WRITTEN
        | {"messages", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "reasoning_format"},
        "completions": _WRITTEN | {"prompt", "suffix"},
        "embeddings": frozenset({"input", "encoding_format"}),
        "rerank": frozenset({"query", "documents", "top_n", "return_documents"}),
    }
)
_WRITING = ("chat/completions", "completions")
_RENAMED: Mapping[str, str] = MappingProxyType({"repetition_penalty": "repeat_penalty"})
ECHO = "gateway_echo"  # engines do not agree on `echo`, so none is told; the gateway does it by this
_REASONING_FORMATS = ("auto", "none", "deepseek", "deepseek-legacy")
_LARGEST_TOKEN = 2**31 - 1
_NUMBERS: dict[str, tuple[float, float]] = {
    "top_k": (-1, 1_000_000),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_penalty": (0, 10),
    "repeat_last_n": (-1, LONGEST_LOOK_BACK),
    "dry_multiplier": (0, 10),
    "dry_base": (0, 10),
    "dry_allowed_length": (0, LONGEST_LOOK_BACK),
    "dry_penalty_last_n": (-1, LONGEST_LOOK_BACK),
    "dynatemp_range": (0, 10),
    "dynatemp_exponent": (0, 10),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 10),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
}
_REFUSED = frozenset(
    {
        "chat_template", "chat_template_kwargs", "id_slot", "lora", "min_keep", "n_discard", "n_keep", "n_predict",
        "n_probs", "samplers", "t_max_predict_ms", "t_max_prompt_ms",
    }
)  # fmt: skip
# What would change the answer and is not done, each with the values that ask for nothing.
_NOT_DONE: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "audio": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": ([], ["text"]),
        "verbosity": ("medium",),
        "web_search_options": (),
        "guided_choice": (),
        "guided_grammar": (),
        "guided_json": (),
        "guided_regex": (),
        "structured_outputs": (),
        "allowed_token_ids": (),
        "bad_words": ([],),
        "early_stopping": (False,),
        "length_penalty": (1,),
        "min_tokens": (0,),
        "no_repeat_ngram_size": (0,),
        "num_beams": (1,),
        "prompt_logprobs": (0, False),
        "stop_token_ids": ([],),
        "truncate_prompt_tokens": (-1,),
        "use_beam_search": (False,),
    }
)
_NOT_DONE_IN: Mapping[str, Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "completions": {"messages": (), "tools": ([],), "tool_choice": ("none", "auto")},
        "chat/completions": {"suffix": ("",), "echo": (False,)},
        "rerank": {"rank_fields": ([], ["text"]), "max_tokens_per_doc": (), "max_chunks_per_doc": ()},
    }
)


def restrict(body: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """Return the fields of `body` that a local model is given; raises InvalidRequest for those it must not be given."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if name in _PASSED[endpoint]:
            kept[name] = _READ[name](value) if name in _READ else value
        else:
            _refuse(endpoint, name, value)
            kept |= _steer(kept, name, value) if endpoint in _WRITING else {}
    if endpoint not in _WRITING:
        return kept
    check_forms(kept)
    return _as_stream(kept) if _is_told_whole_in_streams_only(kept) else kept


def _refuse(endpoint: str, name: str, value: Any) -> None:
    """Raise InvalidRequest for a field that does not pass and would change the answer."""
    is_told = name in _REFUSED or name.startswith("speculative.")
    idle = _NOT_DONE_IN.get(endpoint, {}).get(name, _NOT_DONE.get(name))
    if is_told or (idle is not None and value is not None and value not in idle):
        raise InvalidRequest(f"'{name}' is not supported by local models.", param=name, code="unsupported_parameter")


def _steer(kept: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return what a setting of how answers are written is to the engine; nothing for what is no such setting."""
    if name == "echo":
        return {ECHO: True} if value else {}
    if name == "logit_bias":
        return {name: _biases(value)}
    if name in _NUMBERS:
        return {name: _number(name, value)}
    if name in _RENAMED:
        number = _number(name, value)
        return {} if _RENAMED[name] in kept else {_RENAMED[name]: number}
    return {}


def _is_told_whole_in_streams_only(body: Mapping[str, Any]) -> bool:
    """Tell whether a plain answer would lack something: llama.cpp counts the tokens of one choice, and echoes nothing."""
    prompt = body.get("prompt")
    has_prompts = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    return not body.get("stream") and bool(has_prompts or (body.get("n") or 1) > 1 or ECHO in body)


def _as_stream(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def _biases(value: Any) -> Any:
    for name in value or ():
        if not (name.isascii() and name.isdecimal() and int(name) <= _LARGEST_TOKEN):
            raise InvalidRequest(
                "Invalid key in 'logit_bias': expected the id of a token.", param="logit_bias", code="invalid_value"
            )
    return value


def _format(value: Any) -> Any:
    if value is not None and value not in _REASONING_FORMATS:
        raise InvalidRequest(
            f"Invalid value for 'reasoning_format'. Supported values are: {', '.join(_REASONING_FORMATS)}.",
            param="reasoning_format",
            code="invalid_value",
        )
    return value


def _texts(value: Any) -> Any:
    """Return documents as llama.cpp takes them, which is as texts only."""
    return [document["text"] if isinstance(document, dict) else document for document in value]


_READ: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"reasoning_format": _format, "documents": _texts})


def _number(name: str, value: Any) -> float | int | None:
    least, most = _NUMBERS[_RENAMED.get(name, name)]
    if value is None or (type(value) in (int, float) and least <= value <= most):
        return value  # type: ignore[no-any-return]  # its type was just looked at
    raise InvalidRequest(
        f"Invalid value for '{name}': expected a number from {least:g} to {most:g}.", param=name, code="invalid_value"
    )
