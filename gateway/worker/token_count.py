"""How many tokens an answer has, learned from its bytes on their way: nothing is parsed.

A key within somebody's text has a backslash before its closing quote, so what is found here is a key of the answer.
"""

from __future__ import annotations

import re

_USAGE = re.compile(rb'"(completion|prompt)_tokens":\s*(\d+)')
_LONGEST_BYTES = 40  # of a key and its number
_EVENT = b"data: {"


class TokenCount:
    """What was written by the model; of embeddings and ranks, for which nothing is written, what was read."""

    __slots__ = ("_completion", "_events", "_prompt", "_tail")

    def __init__(self) -> None:
        self._completion = self._prompt = self._events = 0
        self._tail = b""

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the answer."""
        text = self._tail + block
        if b"_tokens" in text:
            for kind, number in _USAGE.findall(text):
                if kind == b"completion":
                    self._completion = int(number)
                else:
                    self._prompt = int(number)
        self._events += block.count(_EVENT)
        self._tail = text[-_LONGEST_BYTES:]

    @property
    def total(self) -> int:
        """The usage that was told; of a stream that has not told it, or was broken off, its events."""
        return self._completion or self._events or self._prompt
