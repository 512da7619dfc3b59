"""Where a text may be cut without breaking what people see as one character.

Not all such places: the rules are Unicode's (UAX 29), made simpler where that only joins more than they do. How a text is
divided is in `dividing.py`.
"""

from __future__ import annotations

import unicodedata

# Marks, formatting such as joiners and tags, and what is newer than the tables of this Python, which may be either.
_JOINED = frozenset({"Mn", "Mc", "Me", "Cf", "Cn"})
_MARKS = frozenset({"Mn", "Mc", "Me", "Cf"})
_VIRAMA = 9  # the combining class of what joins two consonants
# Continue the character before them without being marks: Thai and Lao vowels, half-width sound marks, tones of skin.
_CONTINUE = frozenset("\u0e33\u0eb3\uff9e\uff9f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
# Letters that are written before the one they belong to.
_PREPENDED = frozenset(
    "\u0d4e\U000111c2\U000111c3\U000113d1\U0001193f\U00011941\U00011a84\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89"
    "\U00011d46\U00011f02"
)
_FLAGS = ("\U0001f1e6", "\U0001f1ff")  # a flag is two of these letters
_JAMO = (("\u1100", "\u11ff"), ("\ua960", "\ua97c"), ("\ud7b0", "\ud7fb"))


def is_between(text: str, place: int, start: int) -> bool:
    """Tell whether a cut at `place` is between characters as people see them, if there is a cut at `start` before it."""
    before, after = text[place - 1], text[place]
    if before < "\x7f" and after < "\x7f":
        return before != "\r" or after != "\n"
    if _is_flag(before) and _is_flag(after):
        return _flags_before(text, place, start) % 2 == 0
    return not (_is_joined(before, after) or _is_conjunct(text, place, start))


def _is_joined(before: str, after: str) -> bool:
    return (
        unicodedata.category(after) in _JOINED
        or after in _CONTINUE
        or unicodedata.category(before) in ("Cf", "Cn")
        or before in _PREPENDED
        or (
            unicodedata.category(before) == unicodedata.category(after) == "Lo"
            and (_is_jamo(before) or _is_jamo(after))
        )
    )


def _is_conjunct(text: str, place: int, start: int) -> bool:
    """Tell whether a letter is joined to the one before it by a virama, with other marks between or without."""
    for index in range(place - 1, start - 1, -1):
        if unicodedata.combining(text[index]) == _VIRAMA:
            return True
        if unicodedata.category(text[index]) not in _MARKS and text[index] not in _CONTINUE:
            break
    return False


def _is_flag(character: str) -> bool:
    return _FLAGS[0] <= character <= _FLAGS[1]


def _flags_before(text: str, place: int, start: int) -> int:
    first = place
    while first > start and _is_flag(text[first - 1]):
        first -= 1
    return place - first


def _is_jamo(character: str) -> bool:
    return any(first <= character <= last for first, last in _JAMO)
