"""From tokens' bytes to text that may be told: no half characters, nothing of a stop string.

Pure: what must not live here is anything that knows a token, a model or a wire.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextGate:
    """Lets the text of one answer through, as far as it is certain.

    `add` and `finish` return the text that became certain. Once `stopped` is True the rest is dropped.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stopped = False
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def add(self, piece: bytes) -> str:
        """Return what became certain with the bytes of one token."""
        return self._pass(self._decoder.decode(piece))

    def finish(self) -> str:
        """Return what was held back, at the end of an answer that no stop string ended."""
        text = self._pass(self._decoder.decode(b"", final=True))
        if self.stopped:
            return text
        text, self._held = text + self._held, ""
        return text

    @property
    def held(self) -> int:
        """How many bytes are held back."""
        return len(self._held.encode()) + len(self._decoder.getstate()[0])

    def _pass(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        end = min((place for place in map(text.find, self._stops) if place >= 0), default=-1)
        if end >= 0:
            self.stopped, self._held = True, ""
            return text[:end]
        certain = len(text) - beginning_of_one(text, self._stops, self._longest)
        self._held = text[certain:]
        return text[:certain]


def beginning_of_one(text: str, wanted: Sequence[str], longest: int) -> int:
    """Return how many characters at the end of `text` may begin one of `wanted`, whose longest has `longest`."""
    for size in range(min(longest - 1, len(text)), 0, -1):
        if any(one.startswith(text[-size:]) for one in wanted):
            return size
    return 0
