"""Long texts in stretches that are taken apart one by one, so that no more memory is needed for a long text than for a short.

A run of one character costs the library sixty times its length in memory. What is done with a stretch is in `encodings.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

USUAL = 32_768  # characters; where they end nowhere, up to twice as many
# No encoding has a token that goes from a letter or digit on to any of these, so whatever is before such a place and what
# is behind it have the same tokens together and apart.
_BETWEEN_TOKENS = re.compile(
    r"""[^\W_](?=[ \t\n.,;:!?"()\[\]{}<>=+*#。、，！？；：「」（）])"""
    r"|[A-Za-z](?=[0-9])"  # as in hexadecimal text
)


def stretches(text: str, usual: int = USUAL) -> Iterator[tuple[str, bool]]:
    """Yield the stretches of a text in their order, each with whether a token may have been broken at its end.

    That happens only where `usual` characters after as many have no place between tokens, as in a run of one character.
    """
    start = 0
    while len(text) - start > 2 * usual:
        found = _BETWEEN_TOKENS.search(text, start + usual, start + 2 * usual)
        end = found.end() if found else start + 2 * usual
        yield text[start:end], found is None
        start = end
    yield text[start:], False
