"""Which fields of a request an upstream's sentence complains of, or one of litellm's, in OpenAI's words.

Upstreams with a wire of their own name no code and no param, so their sentences are read. Only what a sentence begins
with counts: further on anything may be quoted, also from the request. Statuses are not looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Code = Literal["unsupported_parameter", "unsupported_value"]


@dataclass(frozen=True, slots=True)
class Complaint:
    """The fields that are refused; any of them may be meant. With `clashes` they are refused together only."""

    fields: tuple[str, ...]
    code: Code = "unsupported_parameter"
    clashes: bool = False


_THOUGHTS = ("reasoning_effort", "thinking")
_PENALTIES = ("frequency_penalty", "presence_penalty")
_LOGPROBS = ("logprobs", "top_logprobs")
# The words of wires and sentences, without capitals and underscores, to OpenAI's fields.
_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "adaptive thinking": _THOUGHTS,
        "budgettokens": _THOUGHTS,
        "candidatecount": ("n",),
        "effort": _THOUGHTS,
        "forced tool use": ("tool_choice",),
        "frequencypenalty": ("frequency_penalty",),
        "json mode": ("response_format",),
        "logitbias": ("logit_bias",),
        "logprobs": _LOGPROBS,
        "maxoutputtokens": ("max_tokens",),
        "maxtokens": ("max_tokens",),
        "multiple candidates": ("n",),
        "n": ("n",),
        "outputconfig": _THOUGHTS,
        "paralleltoolcalls": ("parallel_tool_calls",),
        "penalty": _PENALTIES,
        "presencepenalty": ("presence_penalty",),
        "reasoningeffort": _THOUGHTS,
        "responselogprobs": _LOGPROBS,
        "responsemimetype": ("response_format",),
        "responsemodalities": ("modalities",),
        "responseschema": ("response_format",),
        "seed": ("seed",),
        "servicetier": ("service_tier",),
        "stop": ("stop",),
        "stopsequences": ("stop",),
        "temperature": ("temperature",),
        "thinking": _THOUGHTS,
        "thinking level": _THOUGHTS,
        "thinkingbudget": _THOUGHTS,
        "thinkingconfig": _THOUGHTS,
        "thinkinglevel": _THOUGHTS,
        "toolchoice": ("tool_choice",),
        "topk": ("top_k",),
        "toplogprobs": ("top_logprobs",),
        "topp": ("top_p",),
        "verbosity": ("verbosity",),
    }
)
_PREAMBLE = re.compile(
    r"(?:The model returned the following errors: |Malformed input request: |Invalid JSON payload received\. "
    r"|Unable to submit request because (?:it has an? )?|\* ?GenerateContentRequest\.|#: |#/)+"
)
_GROUP = re.compile(r"(?:generation_?config|inference_?config|additional_?model_?request_?fields)[./]", re.IGNORECASE)
_FIELD = (
    r"[`'\"]?(?P<field>multiple candidates|adaptive thinking|thinking level|json mode|[a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)*)"
    r"[`'\"]?"
)
_BOTH = re.compile(
    rf"{_FIELD} and [`'\"]?(?P<other>[a-z_][a-z0-9_]*)[`'\"]? (?:cannot|can't|may not|must not) (?:both )?be (?:both )?"
    r"(?:specified|set|used|provided)",
    re.IGNORECASE,
)
_WHILE_THINKING = re.compile(rf"{_FIELD}:? [^\n]{{0,100}}?\bwhen (?:using )?(?:extended )?thinking\b", re.IGNORECASE)
_FORCED_TOOL = re.compile(r"Thinking may not be enabled when tool_choice forces", re.IGNORECASE)
# These name a field exactly, also one that the caller made up.
_EXACT = (
    re.compile(rf"{_FIELD}: (?:Extra inputs are not permitted|[`'\"]?\w+[`'\"]? is deprecated\b)", re.IGNORECASE),
    re.compile(rf"Unknown name {_FIELD}(?: at|: Cannot find field)", re.IGNORECASE),
    re.compile(r"extraneous key \[(?P<field>\w+)\] is not permitted", re.IGNORECASE),
    re.compile(rf"(?:Unsupported parameter|Unrecognized request argument supplied): {_FIELD}", re.IGNORECASE),
)
# These begin with a word that may also be no field at all.
_LACKING = (
    re.compile(
        rf"{_FIELD} (?:parameter |field )?(?:is|are) (?:deprecated|unsupported|not (?:supported|enabled|permitted|available))\b",
        re.IGNORECASE,
    ),
    re.compile(rf"(?:this|the) model (?:does not|doesn't) support (?:the )?{_FIELD}", re.IGNORECASE),
)
_VALUES = (
    re.compile(rf"invalid {_FIELD}: only \S+ is allowed", re.IGNORECASE),
    re.compile(rf"{_FIELD}(?: value)? (?:must|may only) be (?:set to )?\d+(?:\.\d+)?(?: but|\.? |\.?$)", re.IGNORECASE),
)
# litellm's own, of models and providers that it knows; the word is one of OpenAI's fields.
_OWN = re.compile(
    r"\S{1,200}(?: models)? (?:does not|doesn't|don't) support (?:"
    r"(?P<all>parameters: )?\[(?P<names>[\w', ]*)\]|'?(?P<word>forced tool use|[a-z_]+\b(?!-))'?(?P<value>=\S+)?)"
    r"(?P<thinking> while reasoning is active)?"
)
_NO_CHOICE = re.compile(r"Only one candidate can be specified", re.IGNORECASE)
_NO_BUDGET = re.compile(r"Budget \d+ is invalid", re.IGNORECASE)


def read_complaint(message: str) -> Complaint | None:
    """Return what an upstream does not support, None if its sentence is about something else."""
    if preamble := _PREAMBLE.match(message):
        message = message[preamble.end() :]
    if group := _GROUP.match(message):
        message = message[group.end() :]
    return _read_clash(message) or _read_lack(message) or _read_value(message)


def read_own_complaint(message: str) -> Complaint | None:
    """Return what litellm says by itself that a model or provider does not support, None if it says something else."""
    told = _OWN.match(message)
    if told is None:
        return None
    fields = tuple(re.findall(r"\w+", told["names"] or "")) if told["word"] is None else _own_fields(told)
    if not fields:
        return None
    if told["thinking"]:
        return Complaint((*fields, *_THOUGHTS), clashes=True)
    return Complaint(fields, "unsupported_value" if told["value"] else "unsupported_parameter")


def _own_fields(told: re.Match[str]) -> tuple[str, ...]:
    word = told["word"]
    return _fields(word) or ((word,) if told["value"] else ())


def _read_clash(message: str) -> Complaint | None:
    if both := _BOTH.match(message):
        fields = (*_fields(both["other"]), *_fields(both["field"]))
        return Complaint(fields, clashes=True) if fields else None
    if _FORCED_TOOL.match(message):
        return Complaint((*_THOUGHTS, "tool_choice"), clashes=True)
    beside = _WHILE_THINKING.match(message)
    if beside and (fields := _fields(beside["field"])):
        return Complaint((*fields, *_THOUGHTS), clashes=True)
    return None


def _read_lack(message: str) -> Complaint | None:
    for form in _EXACT:
        if named := form.match(message):
            return Complaint(_fields(named["field"]) or (named["field"],))
    for form in _LACKING:
        if (named := form.match(message)) and (fields := _fields(named["field"])):
            return Complaint(fields)
    return None


def _read_value(message: str) -> Complaint | None:
    if _NO_CHOICE.match(message):
        return Complaint(("n",), "unsupported_value")
    if _NO_BUDGET.match(message):
        return Complaint(_THOUGHTS, "unsupported_value")
    for form in _VALUES:
        if (named := form.match(message)) and (fields := _fields(named["field"])):
            return Complaint(fields, "unsupported_value")
    return None


def _fields(word: str) -> tuple[str, ...]:
    """Return OpenAI's fields for a word of a sentence; a place within a message or a tool is none."""
    head = word.partition(".")[0] if word.lower().startswith(("thinking.", "output_config.")) else word
    return _WORDS.get(head.lower().replace("_", ""), ())
