"""Texts that lose their middle, the longest first, so that a few tokens less are left of all of them.

Pure. Which texts may be cut, and by how much, is decided in `chat_fitting.py` and `prompt_fitting.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.tokens.counters import Counter

# A text is not cut to fewer tokens: too little would be left around the mark to be of use.
LEAST_LEFT = 64
_MOST_TRIES = 6


@dataclass(frozen=True, slots=True)
class Text:
    """A text of so many tokens: the content of a message, or one of its parts."""

    message: int
    part: int | None
    text: str
    tokens: int

    def at_its_shortest(self) -> Text:
        """Return a text with as few tokens as are left of this one at least."""
        return replace(self, tokens=min(self.tokens, LEAST_LEFT))


def most_left_out(texts: Sequence[Text]) -> int:
    """Return how many tokens can be taken from texts at most."""
    return sum(max(0, each.tokens - LEAST_LEFT) for each in texts)


def shorten(texts: Sequence[Text], over: int, counter: Counter) -> list[tuple[Text, Text]]:
    """Return those of the texts that are cut, each with what is left of it: `over` tokens less in all, or all there are.

    All that are cut have about the same length afterwards. The longest are cut first.
    """
    level = _level(sorted(each.tokens for each in texts), over)
    cut: list[tuple[Text, Text]] = []
    for each in sorted(texts, key=lambda text: -text.tokens):
        if over <= 0 or each.tokens <= level:
            break
        shorter, tokens = without_middle(each.text, level, counter)
        cut.append((each, replace(each, text=shorter, tokens=tokens)))
        over -= each.tokens - tokens
    return cut


def without_middle(text: str, most: int, counter: Counter) -> tuple[str, int]:
    """Return the beginning and the end of a text that has more than `most` tokens, with a mark between, and its tokens.

    Where not even the mark fits there is nothing left.
    """
    tokens = counter.count(text)
    room = most - counter.count(_mark(tokens))
    for _ in range(_MOST_TRIES):
        if room < 2:
            break
        first = counter.first(text, (room + 1) // 2)
        last = counter.last(text, room - counter.count(first))
        if len(first) + len(last) < len(text):
            left_out = tokens - counter.count(first) - counter.count(last)
            shorter = f"{first}{_mark(max(1, left_out))}{last}"
            counted = counter.count(shorter)
            if counted <= most:
                return shorter, counted
            room -= counted - most
        else:
            room = room * 3 // 4
    mark = _mark(tokens)
    return (mark, counter.count(mark)) if counter.count(mark) <= most else ("", counter.count(""))


def _mark(tokens: int) -> str:
    return f"\n[… {tokens} tokens left out …]\n"


def _level(counts: Sequence[int], over: int) -> int:
    """Return to how many tokens the longest are cut so that all of them have `over` less; `counts` are ascending."""
    room = sum(counts) - over
    for place, count in enumerate(counts):
        share = room // (len(counts) - place)
        if count > share:
            return max(LEAST_LEFT, share)
        room -= count
    return max(LEAST_LEFT, counts[-1] if counts else 0)
