"""Which messages of a conversation go together: what a user said, and all that was answered until the user spoke again.

Pure. Which of them are dropped is decided in `chat_fitting.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

_INSTRUCTIONS = frozenset({"system", "developer"})
_Key = tuple[str, str]


def is_instruction(message: Any) -> bool:
    """Tell whether a message tells the model how to behave."""
    return role_of(message) in _INSTRUCTIONS


def role_of(message: Any) -> str:
    """Return the role of a message, "" where it has none."""
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else ""


def exchanges(messages: Sequence[Any]) -> list[list[int]]:
    """Return the places of the messages of each exchange, oldest first, without the instructions.

    Each begins with a message of the user, save what comes before the first. Calls of tools and their results are in one:
    where a user spoke between them, the exchanges are one.
    """
    spoken = [place for place, message in enumerate(messages) if not is_instruction(message)]
    return _divided(messages, spoken, "user")


def rounds(messages: Sequence[Any], exchange: Sequence[int]) -> list[list[int]]:
    """Return the places of what an exchange could go on without, oldest first: calls of tools with their results.

    That is each answer of the model save the last, up to where the user spoke between.
    """
    divided = _divided(messages, exchange, "assistant")[:-1]
    if divided and role_of(messages[divided[0][0]]) == "user":
        divided = divided[1:]  # the question that all of it is about
    return list(takewhile(lambda each: all(role_of(messages[place]) != "user" for place in each), divided))


def _divided(messages: Sequence[Any], places: Iterable[int], beginner: str) -> list[list[int]]:
    """Return places in groups, each of which begins with a message of that role, save what comes before the first."""
    found: list[list[int]] = []
    called: dict[_Key, int] = {}  # where a tool was called
    for place in places:
        message = messages[place]
        if role_of(message) == beginner or not found:
            found.append([])
        found[-1].append(place)
        answered = _answered(message)
        if answered in called:
            _join(found, called[answered])
        called.update(dict.fromkeys(_calls(message), place))
    return found


def _join(found: list[list[int]], place: int) -> None:
    """Make one exchange of that to which a place belongs and all behind it."""
    first = bisect_right(found, place, key=lambda exchange: exchange[0]) - 1
    for exchange in found[first + 1 :]:
        found[first].extend(exchange)
    del found[first + 1 :]


def _answered(message: Any) -> _Key:
    """Return which call a message is the result of."""
    role = role_of(message)
    if role == "tool":
        return "tool", _text(message.get("tool_call_id"))
    return ("function", _text(message.get("name"))) if role == "function" else ("", "")


def _calls(message: Any) -> list[_Key]:
    """Return the calls that are made in a message."""
    if not isinstance(message, dict):
        return []
    calls, function = message.get("tool_calls"), message.get("function_call")
    made = [
        ("tool", _text(call.get("id"))) for call in (calls if isinstance(calls, list) else ()) if isinstance(call, dict)
    ]
    return [*made, ("function", _text(function.get("name")))] if isinstance(function, dict) else made


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
