"""A text in pieces of so many tokens at most, cut between what people see as characters.

Pure: how tokens are counted is the caller's to say. A piece has other tokens than the text had there, so each is counted
by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.tokens.graphemes import is_between

# Any character has at most as many tokens, so that each piece has at least one.
LEAST_TOKENS = 4
_LOOK_BACK = 256  # characters; what is seen as one is hardly ever longer


class Counted(Protocol):
    """A text that was taken apart."""

    @property
    def tokens(self) -> int: ...
    def end_of(self, tokens: int) -> int:
        """Return how many characters are whole within the first so many tokens."""
        ...


TakeApart = Callable[[str], Counted]


def divide(text: str, counted: Counted, take_apart: TakeApart, most: int) -> Iterator[tuple[str, int]]:
    """Yield consecutive pieces of a text with `most` tokens or fewer, and how many; together they are the text.

    `counted` is the whole text taken apart, `most` at least LEAST_TOKENS.
    """
    start = passed = 0  # characters, and about as many tokens of the whole
    while start < len(text):
        wanted = most
        while True:
            end = _cut_before(text, start, max(start + 1, counted.end_of(passed + max(wanted, 0))))
            tokens = take_apart(text[start:end]).tokens
            if tokens <= most or end == start + 1:
                break
            # Nearly always the next try fits; the larger steps are for texts whose pieces are denser than they were.
            wanted = min(wanted - (tokens - most), wanted * 9 // 10)
        yield text[start:end], tokens
        start, passed = end, _tokens_before(counted, end, passed, passed + max(wanted, 0))


def _tokens_before(counted: Counted, end: int, least: int, guess: int) -> int:
    """Return how many tokens are wholly before the character at `end`: `least` or more, near `guess` and not above it."""
    step = 1
    while guess > least and counted.end_of(guess) > end:
        guess, step = max(least, guess - step), step * 2
    return guess  # a few too few cost nothing: the next piece is counted by itself


def _cut_before(text: str, start: int, end: int) -> int:
    """Return the last place at or before `end` where a piece from `start` may end."""
    if end >= len(text):
        return len(text)
    for cut in range(end, max(start, end - _LOOK_BACK), -1):
        if is_between(text, cut, start):
            return cut
    return end  # one that is longer than a piece is broken
