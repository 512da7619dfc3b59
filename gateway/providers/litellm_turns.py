"""A conversation put so that litellm adds no sentence and no tool of its own to it.

Empty answers are left out, instructions that come later take the place where an upstream reads them, and functions
that were called are declared where the upstream can be kept from calling them. Works on the call's own copies; odd
forms are refused in `litellm_forms.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from gateway.errors import UpstreamRejected
from gateway.providers.litellm_fields import wire_of
from gateway.providers.pricemap import takes_late_instructions

_KNOWN = frozenset({"anthropic", "bedrock", "gemini"})
_INSTRUCTIONS = frozenset({"developer", "system"})
_RESULTS = frozenset({"function", "tool"})
_ALSO_SAID = ("function_call", "thinking_blocks", "tool_calls")

Message = dict[str, Any]


def settle_turns(fields: dict[str, Any], prefix: str, model: str) -> None:
    """Change the messages, and the tools they need, of a chat call's keywords in place.

    Raises UpstreamRejected, its `param` the place, for calls of functions that cannot be told without their tools.
    """
    wire = wire_of(prefix, model)
    if wire not in _KNOWN or not isinstance(fields.get("messages"), list):
        return
    fields["messages"] = list(_without_empty(fields["messages"], keeps_blanks=wire == "gemini"))
    if wire == "gemini":
        return  # where every instruction is put before the conversation, and calls are told by themselves
    if wire == "bedrock":
        _refuse_undeclared(fields)
    runs = [(kind, list(run)) for kind, run in groupby(fields["messages"], key=_kind)]
    if any(kind == "instruction" for kind, _ in runs[1:]):
        fields["messages"] = _place(runs, kept=wire == "anthropic" and takes_late_instructions(prefix, model))
    if wire == "anthropic":
        _declare(fields)


def _without_empty(messages: Iterable[Message], *, keeps_blanks: bool) -> Iterator[Message]:
    for message in messages:
        if message.get("role") == "assistant":
            content = _said(message.get("content"), keeps_blanks=keeps_blanks)
            if content is None and not any(message.get(name) for name in _ALSO_SAID):
                continue
            message["content"] = content
        yield message


def _said(content: Any, *, keeps_blanks: bool) -> Any:
    """Return what an answer's content says, None if that is nothing."""
    if isinstance(content, list):
        kept = [part for part in content if part.get("type") != "text" or _is_said(part.get("text"), keeps_blanks)]
        return kept or None
    return content if _is_said(content, keeps_blanks) else None


def _is_said(text: Any, keeps_blanks: bool) -> bool:
    return isinstance(text, str) and bool(text if keeps_blanks else text.strip())


def _place(runs: list[tuple[str, list[Message]]], *, kept: bool) -> list[Message]:
    """Let later instructions be said by the user, unless they are `kept` where the upstream knows them.

    It knows them beside what the user says, not between two answers nor behind the last; never between a call of a
    function and its result.
    """
    placed: list[Message] = []
    held: list[Message] = []
    for index, (kind, run) in enumerate(runs):
        following = runs[index + 1][0] if index + 1 < len(runs) else ""
        before = runs[index - 1][0] if index else ""
        if kind != "instruction" or not before:
            placed += run
        elif not kept or not {before, following} & {"user", "result"}:
            held = [{"role": "user", "content": text} for message in run if (text := _text_of(message)) is not None]
            if following == "result":
                continue  # which must come first
        else:
            placed += run
        placed += held
        held = []
    return placed


def _kind(message: Message) -> str:
    role = message.get("role")
    return "instruction" if role in _INSTRUCTIONS else "result" if role in _RESULTS else str(role)


def _text_of(message: Message) -> Any:
    return _said(message.get("content"), keeps_blanks=False)


def _declare(fields: dict[str, Any]) -> None:
    """Declare the functions that the messages call where the caller declares none, so that none can be called."""
    if fields.get("tools") or fields.get("functions"):
        return
    names = dict.fromkeys(call["function"]["name"] for call in _calls(fields["messages"]))
    if names:
        nothing = {"type": "object", "properties": {}}
        fields["tools"] = [{"type": "function", "function": {"name": name, "parameters": nothing}} for name in names]
        fields["tool_choice"] = "none"
        fields.pop("parallel_tool_calls", None)


def _refuse_undeclared(fields: dict[str, Any]) -> None:
    """Refuse calls without tools: litellm tells them as text, and nothing forbids a model to call what is declared."""
    if not fields.get("tools") and any(_calls(fields["messages"])):
        raise UpstreamRejected(
            "Missing required parameter: 'tools'. This model can be told of calls in 'messages' only if the functions "
            "that are called are declared.",
            param="tools",
            code="missing_required_parameter",
        )


def _calls(messages: Iterable[Message]) -> Iterator[Any]:
    for message in messages:
        yield from message.get("tool_calls") or ()
