"""Where a text is cut so that what is left has so many tokens: between characters as people see them.

Pure. What counts as one character is decided in `graphemes.py`; how tokens are counted in `counters.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.tokens.graphemes import is_between

_FARTHEST = 256  # characters; what is seen as one is hardly ever longer, and is broken where it is
_MOST_COUNTS = 11
_ENOUGH = 0.97  # of the tokens that were asked for


def beginning(text: str, size: int) -> str:
    """Return the first `size` characters of a text, or as many fewer as belong to one that would be broken."""
    return text[: _place_before(text, size)]


def ending(text: str, size: int) -> str:
    """Return the last `size` characters of a text, or as many fewer as belong to one that would be broken."""
    return text[_place_behind(text, len(text) - size) :]


def search(
    text: str, tokens: int, total: int, part: Callable[[str, int], str], count: Callable[[str], int]
) -> tuple[str, int]:
    """Return the longest `part` found that has at most `tokens`, and how many; "" where none has, all if that has so few.

    A text of `total` tokens is taken to have them spread evenly between what is known to fit and what is known not to.
    A dozen counts with that of the whole text at most, mostly two or three.
    """
    if total <= tokens:
        return text, total
    low, high, high_tokens = 0, len(text), total  # characters that fit, and that do not
    found, found_tokens = "", 0
    for _ in range(_MOST_COUNTS):
        if tokens <= 0 or high - low <= 1 or found_tokens >= tokens * _ENOUGH:
            break
        share = (tokens - found_tokens) / max(1, high_tokens - found_tokens) * 0.99
        size = min(high - 1, max(low + 1, low + math.floor((high - low) * share)))
        kept = part(text, size)
        counted = count(kept)
        if counted <= tokens:
            low, found, found_tokens = size, kept, counted
        else:
            high, high_tokens = size, counted
    return found, found_tokens


def _place_before(text: str, place: int) -> int:
    if place >= len(text):
        return len(text)
    for cut in range(place, max(0, place - _FARTHEST), -1):
        if is_between(text, cut, 0):
            return cut
    return max(0, place) if place > _FARTHEST else 0


def _place_behind(text: str, place: int) -> int:
    if place <= 0:
        return 0
    for cut in range(place, min(len(text), place + _FARTHEST)):
        if is_between(text, cut, 0):
            return cut
    return place if place + _FARTHEST < len(text) else len(text)
