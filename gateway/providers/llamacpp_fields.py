"""Which request fields reach a local model: an allow-list, with the range of each number.

llama.cpp's server has fields of its own that choose slots, replace templates or size its buffers; one request could
take the memory of the machine with them. What OpenAI documents and common sampling settings pass; fields that would
change how the engine works are refused by name; anything else is no concern of the engine's and stays here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import InvalidRequest

LONGEST_LOOK_BACK = 8192  # tokens; penalties keep a buffer of this size for each request

_PASSED = frozenset(
    {
        "messages", "prompt", "input", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature",
        "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "encoding_format", "reasoning_effort",
        "reasoning_format", "grammar", "json_schema", "ignore_eos", "cache_prompt", "timings_per_token",
    }
)  # fmt: skip
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


def restrict(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `body` that a local model is given; raises InvalidRequest for those it must not be given."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if name in _PASSED:
            kept[name] = value
        elif name in _NUMBERS:
            kept[name] = _number(name, value)
        elif name in _REFUSED or name.startswith("speculative."):
            raise InvalidRequest(
                f"'{name}' is not supported by local models.", param=name, code="unsupported_parameter"
            )
    return kept


def _number(name: str, value: Any) -> float | int | None:
    least, most = _NUMBERS[name]
    if value is None or (type(value) in (int, float) and least <= value <= most):
        return value  # type: ignore[no-any-return]  # its type was just looked at
    raise InvalidRequest(
        f"Invalid value for '{name}': expected a number from {least:g} to {most:g}.", param=name, code="invalid_value"
    )
