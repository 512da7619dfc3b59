"""Which of OpenAI's fields arrive on a wire of its own: what cannot be said there is refused by name before asking.

What litellm would leave out without a word, or send to be refused, is found here; forms within a field are looked at in
`litellm_forms.py`. Who drops what is refused, and remembers it, is `routing/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import UpstreamRejected
from gateway.providers.pricemap import look_up

# Their translation is known here; what others take is theirs to judge.
_KNOWN = frozenset({"anthropic", "bedrock", "gemini"})
# They steer caches, bills and records, not the answer: a caller who gets none of it gets the same answer.
_HINTS = frozenset({"prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier"})
# What leaving out a field means the same as, on wires that have no word for it.
_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "frequency_penalty": 0,
        "function_call": "auto",
        "logit_bias": {},
        "modalities": ["text"],
        "presence_penalty": 0,
        "tool_choice": "auto",
        "top_logprobs": 0,
        "verbosity": "medium",
    }
)
# litellm's own lists of fields are wrong in these.
_CARRIED: Mapping[str, frozenset[str]] = MappingProxyType({"gemini": frozenset({"audio", "top_logprobs"})})
_LOST: Mapping[str, frozenset[str]] = MappingProxyType(
    dict.fromkeys(("gemini", "nova"), frozenset({"parallel_tool_calls"}))
)
_ALWAYS = frozenset({"max_completion_tokens", "max_tokens", "messages"})
_UNSAID_TOKENS = 8192  # where the wire wants a longest answer; litellm would say all that the model can make
_THINKERS_CAN = 32_000  # the longest answer of the least of Claude's models that think within a budget
SMALLEST_BUDGET = 1024  # tokens; Anthropic thinks with no fewer


def settle(made: dict[str, Any], wire: str, names: frozenset[str], mapped: frozenset[str]) -> None:
    """Leave out of a chat call's keywords what says nothing on this `wire`, as `wire_of` names it; add what it wants.

    `names` are OpenAI's fields, `mapped` those that litellm has words for. Raises UpstreamRejected, its `fields` all
    that the wire has no words for.
    """
    if wire not in _KNOWN:
        return
    if made.get("parallel_tool_calls") is True or not made.get("tools"):
        made.pop("parallel_tool_calls", None)  # Anthropic takes no word of tools where there are none
    lost = _LOST.get(wire, frozenset())
    if wire == "bedrock" and "claude" not in made["model"]:
        lost = _LOST["nova"]
    taken = (mapped | _ALWAYS | _CARRIED.get(wire, frozenset())) - lost
    lacking = sorted((made.keys() & names) - taken)
    for name in lacking:
        if name in _HINTS or (name in _DEFAULTS and made[name] == _DEFAULTS[name]):
            del made[name]
    _refuse([name for name in lacking if name in made])
    if wire == "anthropic" and not made.get("max_completion_tokens"):
        made.setdefault("max_tokens", _UNSAID_TOKENS)
    if wire != "gemini":
        _refuse_json_without_schema(made.get("response_format"))


def wire_of(prefix: str, model: str) -> str:
    """Return whose wire a model is spoken to in, "" where it is not known here."""
    if prefix == "vertex_ai":
        return "anthropic" if model.startswith("claude") else "gemini" if model.startswith("gemini") else ""
    return prefix


def fit_budget(made: dict[str, Any], thinking: Any, limit: int | None = None) -> None:
    """Keep the tokens of thinking below the longest answer, which holds both; where they cannot be, do not think.

    `thinking` is what litellm makes of the call's `reasoning_effort`. Where nobody said how long an answer may be, it is
    as long as the model can make it, and no longer than `limit`: litellm would cut it a little behind the thinking.
    """
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    longest = made.get("max_tokens") or made.get("max_completion_tokens")
    if budget is None:
        return
    if longest is None:
        prefix, model = made["model"].split("/", 1)
        longest = made["max_tokens"] = _longest_answer(prefix, model, limit)
    if budget < longest:
        return
    del made["reasoning_effort"]
    if longest > SMALLEST_BUDGET:
        made["thinking"] = {"type": "enabled", "budget_tokens": max(SMALLEST_BUDGET, longest // 2)}


def _longest_answer(prefix: str, model: str, limit: int | None) -> int:
    facts = look_up(prefix, model)
    longest = (facts.max_output_tokens if facts else None) or _THINKERS_CAN
    return longest if limit is None else min(longest, limit)


def _refuse(names: Iterable[str]) -> None:
    fields = tuple(names)
    if not fields:
        return
    listed = ", ".join(f"'{name}'" for name in fields)
    error = UpstreamRejected(
        f"Unsupported parameter: {listed} {'is' if len(fields) == 1 else 'are'} not supported with this model.",
        param=fields[0],
        code="unsupported_parameter",
    )
    error.fields = fields
    raise error


def _refuse_json_without_schema(wanted: Any) -> None:
    if isinstance(wanted, dict) and wanted.get("type") == "json_object" and not wanted.get("response_schema"):
        raise UpstreamRejected(
            "This model cannot be held to JSON without a schema. Use 'response_format' of the type 'json_schema'.",
            param="response_format",
            code="unsupported_value",
        )
