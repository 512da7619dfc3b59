"""How many tokens each of many texts has, without what it costs to take one apart for cutting.

A conversation is hundreds of texts: to look after every one how much the library remembers takes ten times as long as to
count it. Texts that are longer, or spell a special token, are taken apart as in `encodings.py`.
"""

from __future__ import annotations

import time

from gateway.tokens.encodings import Encoding, Taken
from gateway.tokens.stretches import USUAL

_FORGET_AFTER = 256 * 1024  # characters; a megabyte or two are remembered of them at most
# Characters. The library lets other threads run while it counts, but with a short text not for long enough to wake one.
_GIVE_WAY_AFTER = 8192
_PAUSE = 0.00005  # seconds
_A_CALL = 64  # characters, which take about as long as what is around them
_BYTES = 4  # of a token


class ShortTexts:
    """Counts with one encoding; after the first few texts, for a thread beside the event loop, which gets its turns."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._remembered = 0  # characters
        self._held = 0

    def count(self, text: str) -> int | Taken:
        """Return how many tokens a text has, or the text taken apart where it had to be for that."""
        loaded = self._encoding._loaded or self._encoding._load()  # this room's own
        if len(text) > USUAL or loaded.special.search(text):
            return self._encoding.take_apart(text, gives_way=True)
        self._remembered += len(text)
        if self._remembered > _FORGET_AFTER:
            loaded.core.clear_cache()
            self._remembered = 0
        try:
            counted = len(loaded.core.encode_batch_flat([text])[0]) // _BYTES
        except UnicodeEncodeError:  # a lone surrogate
            return self._encoding.take_apart(text, gives_way=True)
        self._held += len(text) + _A_CALL
        if self._held > _GIVE_WAY_AFTER:
            time.sleep(_PAUSE)
            self._held = 0
        return counted
