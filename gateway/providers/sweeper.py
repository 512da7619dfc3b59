"""Time limits of attempts and streams, kept by one coarse timer for all of them.

`asyncio.timeout` costs two timer operations for each request, 6 to 8 % of a whole pass through the gateway; here a
limit costs a set insertion, and one timer looks at all limits twenty times a second while there are any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

INTERVAL_SECONDS = 0.05  # limits are seconds long: a twentieth more is no harm


class Watched(Protocol):
    def sweep(self, now: float) -> None:
        """Act if too late; `now` is the event loop's time in seconds. Must not raise."""
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
        loop = asyncio.get_running_loop()
        now = loop.time()
        for watched in tuple(self._watched):
            watched.sweep(now)
        self._timer = loop.call_later(INTERVAL_SECONDS, self._sweep) if self._watched else None


class TimeLimit:
    """Cancels the task that runs its `with` block after `seconds`, and turns that into TimeoutError.

    Somebody else's cancellation passes through untouched.
    """

    __slots__ = ("_due", "_expired", "_loop", "_sweeper", "_task", "seconds")

    def __init__(self, sweeper: Sweeper, seconds: float) -> None:
        self._sweeper = sweeper
        self._loop = asyncio.get_running_loop()
        self.seconds = seconds
        self._due = self._loop.time() + seconds
        self._task: asyncio.Task[object] | None = None
        self._expired = False

    def extend(self, seconds: float) -> None:
        """Set the end `seconds` from now."""
        self.seconds = seconds
        self._due = self._loop.time() + seconds

    def sweep(self, now: float) -> None:
        if now >= self._due and not self._expired and self._task is not None:
            self._expired = True
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self._loop)
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
