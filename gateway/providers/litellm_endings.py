"""Why the choices of a stream ended, in the upstream's own words: litellm gives a reason even where none was said.

Pure: takes in the bytes of the upstream's events. What the reasons mean is decided in `litellm_reply.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.wire import data_of

# Looked for first, because few events have one. It may also stand in the arguments of a call, so the event is read.
_ENDING = re.compile(rb'"(?:finishReason|blockReason|stop_reason|finish_reason)"\s*:\s*"')
_BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")


class Endings:
    """Notes the choices whose end was said, by Google, Anthropic or in OpenAI's form."""

    __slots__ = ("_ended", "_rest")

    def __init__(self) -> None:
        self._ended: dict[int, str] = {}
        self._rest = bytearray()  # the event that has not ended yet

    @property
    def pending_bytes(self) -> int:
        """Return how much of an event is held until the rest of it arrives."""
        return len(self._rest)

    @property
    def count(self) -> int:
        """Return how many choices have ended, also by an event whose blank line was left out."""
        return len(self.reasons)

    @property
    def reasons(self) -> Mapping[int, str]:
        """Return why choices have ended, by their index."""
        return {**self._ended, **dict(_read(bytes(self._rest)))}

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes, which may begin and end anywhere."""
        rest = self._rest
        start = max(0, len(rest) - 2)
        rest += piece
        ends = [place + len(blank) for blank in _BLANK_LINES if (place := rest.rfind(blank, start)) >= 0]
        if ends:
            end = max(ends)
            self._ended.update(_read(bytes(rest[:end])))
            del rest[:end]


def _read(events: bytes) -> Iterator[tuple[int, str]]:
    """Yield the index of each choice that these events say the end of, and the reason."""
    if _ENDING.search(events) is None:
        return
    for event in events.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        if _ENDING.search(event) is not None:
            yield from _ended(_object(data_of(event + b"\n\n")))


def _ended(said: dict[str, Any]) -> Iterator[tuple[int, str]]:
    feedback, delta = said.get("promptFeedback"), said.get("delta")
    if isinstance(feedback, dict) and isinstance(feedback.get("blockReason"), str):
        yield 0, feedback["blockReason"]
    if said.get("type") == "message_delta" and isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str):
        yield 0, delta["stop_reason"]
    for group, name in (("candidates", "finishReason"), ("choices", "finish_reason")):
        choices = said.get(group)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(choice.get(name), str):
                index = choice.get("index", 0)
                yield index if type(index) is int else 0, choice[name]


def _object(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)  # takes half characters too, as litellm does
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
