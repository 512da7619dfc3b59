"""Time limits of attempts and streams, kept by one coarse timer for all of them.

`asyncio.timeout` costs two timer operations for each request, 6 to 8 % of a whole pass through the gateway; here a
limit costs a set insertion, and one timer looks at all limits twenty times a second while there are any.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

INTERVAL_SECONDS = 0.05  # limits are seconds long: a twentieth more is no harm


class Watched(Protocol):
    def sweep(self, now: float) -> None:
        """Act if too late; `now` is the monotonic clock's time in seconds. Must not raise."""
        ...


class Sweeper:
    """Calls `sweep` of everything it watches, until it is discarded."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watched: Watched) -> None:
        self._watched.add(watched)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._sweep)

    def discard(self, watched: Watched) -> None:
        self._watched.discard(watched)

    @contextmanager
    def watching(self, watched: Watched) -> Iterator[None]:
        """Watch for the length of a `with` block."""
        self.add(watched)
        try:
            yield
        finally:
            self.discard(watched)

    def _sweep(self) -> None:
        now = time.monotonic()
        for watched in tuple(self._watched):
            watched.sweep(now)
        self._timer = None
        if self._watched:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._sweep)


class TimeLimit:
    """Cancels the task that runs its `with` block after `seconds`, and turns that into TimeoutError.

    Somebody else's cancellation passes through untouched.
    """

    __slots__ = ("_due", "_expired", "_sweeper", "_task", "began", "seconds")

    def __init__(self, sweeper: Sweeper, seconds: float) -> None:
        self._sweeper = sweeper
        self.seconds = seconds
        self.began = time.monotonic()
        self._due = self.began + seconds
        self._task: asyncio.Task[object] | None = None
        self._expired = False

    def extend(self, seconds: float) -> None:
        """Set the end `seconds` from now."""
        self.seconds = seconds
        self._due = time.monotonic() + seconds

    def stretch(self, seconds: float) -> None:
        """Set the end `seconds` from the beginning."""
        self.seconds = seconds
        self._due = self.began + seconds

    def sweep(self, now: float) -> None:
        if now >= self._due and not self._expired and self._task is not None:
            self._expired = True
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._sweeper.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sweeper.discard(self)
        if self._expired and self._task is not None:
            nobody_else = self._task.uncancel() == 0
            if nobody_else and kind is asyncio.CancelledError:
                raise TimeoutError from None
