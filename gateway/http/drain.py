"""Whether this process is going away, as its handlers need to know it."""

from __future__ import annotations


class Drain:
    """Two steps to the end: `begin()` turns /readyz to 503, `cut()` says that running answers are now broken off."""

    def __init__(self) -> None:
        self.is_draining = False
        self.is_cutting = False

    def begin(self) -> None:
        self.is_draining = True

    def cut(self) -> None:
        self.is_draining = self.is_cutting = True
