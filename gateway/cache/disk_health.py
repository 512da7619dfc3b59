"""Staying away from a disk that fails, saying so once, and the counting of what happens in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gateway.logs import event


class Rest:
    """Whether something that failed is left alone for now: for `seconds`, by a `clock` in Unix seconds.

    `events` are the names of what the log is told: once when it fails, and once when it works again.
    """

    def __init__(self, events: tuple[str, str], seconds: float, clock: Callable[[], float]) -> None:
        self.reason = ""
        self._events = events
        self._seconds = seconds
        self._clock = clock
        self._since = 0.0
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        return bool(self.reason) and 0 <= self._clock() - self._since < self._seconds

    def failed(self, reason: str) -> None:
        """Begin to rest, or begin anew."""
        with self._lock:
            was, self.reason, self._since = self.reason, reason or "unknown", self._clock()
        if not was:
            event(self._events[0], level="warning", reason=reason, again_in_seconds=self._seconds)

    def worked(self) -> None:
        if not self.reason:
            return
        with self._lock:
            was, self.reason = self.reason, ""
        if was:
            event(self._events[1])


class OnLoop:
    """Has things done on the event loop that the tier was used from last, as most of what counts is made for one thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def here(self) -> None:
        """Remember the running loop, if there is one."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return

    def do(self, work: Callable[..., object], *arguments: Any) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it everything that could be in the way
                self._loop.call_soon_threadsafe(work, *arguments)
                return
        work(*arguments)
