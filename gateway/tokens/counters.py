"""Who counts the tokens of a text, and finds how much of its beginning or its end fits.

Synchronous, for a thread beside the event loop. What of a request is text, and what becomes of one that is too long, is
decided in `chats.py` and `chat_fitting.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from gateway.tokens.cutting import beginning, ending, search
from gateway.tokens.encodings import HELD, Encoding, Taken
from gateway.tokens.short_texts import ShortTexts


class Counter(Protocol):
    """How one model counts."""

    def count(self, text: str) -> int:
        """Return how many tokens a text has, never fewer than the model sees."""
        ...

    def first(self, text: str, tokens: int) -> str:
        """Return the longest beginning found that has at most so many tokens, cut between characters; "" if none does."""
        ...

    def last(self, text: str, tokens: int) -> str:
        """Return the longest end found that has at most so many tokens, cut between characters; "" if none does."""
        ...


class EncodingCounter:
    """Counts in this process, in a thread, for one call: what was counted once is remembered as long as the object lives.

    With a margin, a text is taken to have so many more tokens than are counted, but never more than bytes. What is
    remembered takes as much memory as the texts, so the object is dropped once the call is sent.
    """

    def __init__(self, encoding: Encoding, margin: float = 0.0) -> None:
        self._encoding = encoding
        self._margin = margin
        self._short = ShortTexts(encoding)
        self._counts: dict[str, int] = {}
        self._apart: dict[str, Taken] = {}  # those texts that had to be taken apart

    def count(self, text: str) -> int:
        known = self._counts.get(text)
        if known is not None:
            return known
        counted = self._counted(text)
        self._counts[text] = counted
        return counted

    def first(self, text: str, tokens: int) -> str:
        if len(text) <= HELD:
            return self._searched(text, tokens, beginning)
        return (
            text
            if self.count(text) <= tokens
            else self._by_tokens(tokens, lambda wanted: self._beginning(text, wanted))
        )

    def last(self, text: str, tokens: int) -> str:
        if len(text) <= HELD:
            return self._searched(text, tokens, ending)
        return (
            text if self.count(text) <= tokens else self._by_tokens(tokens, lambda wanted: self._ending(text, wanted))
        )

    def _searched(self, text: str, tokens: int, part: Callable[[str, int], str]) -> str:
        kept, counted = search(text, tokens, self.count(text), part, self._counted)
        if kept:
            self._counts[kept] = counted
        return kept

    def _by_tokens(self, tokens: int, part: Callable[[int], str]) -> str:
        wanted = math.floor(tokens / (1.0 + self._margin))
        while wanted > 0:
            kept = part(wanted)
            over = self.count(kept) - tokens
            if over <= 0:
                return kept
            wanted = min(wanted - over, wanted * 9 // 10)
        return ""

    def _beginning(self, text: str, wanted: int) -> str:
        return beginning(text, self._taken(text).end_of(wanted))

    def _ending(self, text: str, wanted: int) -> str:
        taken = self._taken(text)
        return ending(text, len(text) - taken.end_of(max(0, taken.tokens - wanted)))

    def _taken(self, text: str) -> Taken:
        taken = self._apart.get(text)
        if taken is None:
            taken = self._apart[text] = self._encoding.take_apart(text, gives_way=True)
        return taken

    def _counted(self, text: str) -> int:
        counted = self._short.count(text)
        if isinstance(counted, Taken):
            self._apart[text] = counted
            counted = counted.tokens
        if self._margin:
            counted = min(math.ceil(counted * (1.0 + self._margin)), max(counted, size_of(text)))
        return counted


class SearchingCounter:
    """Counts by a function alone, such as a local model's process offers; where to cut is searched, a dozen counts at most."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._counts: dict[str, int] = {}

    def count(self, text: str) -> int:
        known = self._counts.get(text)
        if known is None:
            known = self._counts[text] = self._count(text)
        return known

    def first(self, text: str, tokens: int) -> str:
        return search(text, tokens, self.count(text), beginning, self.count)[0]

    def last(self, text: str, tokens: int) -> str:
        return search(text, tokens, self.count(text), ending, self.count)[0]


def size_of(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
