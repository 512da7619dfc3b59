"""A thread that does one thing after another, for what may wait for a disk. What it does is not decided here."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from gateway.logs import event

T = TypeVar("T")
_Job = tuple["Future[Any]", Callable[[], Any]]


class Desk:
    """Takes work from the event loop and does it in order, in a thread that starts with the first of it.

    `idle` is done about every `every` seconds, `last` when the thread ends.
    Whoever asked gets what is raised; the log does, too, unless it was `expected`.
    """

    def __init__(
        self,
        name: str,
        *,
        last: Callable[[], None],
        expected: type[Exception],
        idle: Callable[[], None] | None = None,
        every: float = 1.0,
    ) -> None:
        self.closing = threading.Event()
        self._name = name
        self._last = last
        self._expected = expected
        self._idle = idle
        self._every = every
        self._due = 0.0
        self._since: float | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # who stops waiting for it does not undo it
        self._thread: threading.Thread | None = None

    @property
    def busy_seconds(self) -> float:
        """Return for how long it has been at what it does now, or since it told of progress."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def goes_on(self) -> None:
        """Tell, in the thread, that what is done has many parts and one of them is over."""
        self._since = time.monotonic()

    def ask(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done after all that was asked before; cancel what is returned, and it is left out."""
        asked: Future[T] = Future()
        if self.closing.is_set():
            asked.cancel()
            return asked
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there are too many; the next one who asks tries again
                asked.set_exception(self._expected(str(error)))
                return asked
            self._thread = thread
        self._jobs.put((asked, work))
        return asked

    async def close(self, seconds: float) -> None:
        """Do what was asked and end the thread; a disk that takes longer is not waited for."""
        self.closing.set()
        if self._thread is None:
            return
        self._jobs.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(self._ended)
            self._thread.join()

    def _run(self) -> None:
        self._due = time.monotonic() + self._every
        try:
            while self._next():
                pass
            self._last()
        finally:
            self._ended.set_result(None)

    def _next(self) -> bool:
        if self._idle and (now := time.monotonic()) >= self._due:
            self._due = now + self._every
            self._do(Future(), self._idle)
        try:
            job = self._jobs.get(timeout=max(0.0, self._due - time.monotonic()) if self._idle else None)
        except queue.Empty:
            return True
        if job is None:
            return False
        self._do(*job)
        return True

    def _do(self, asked: Future[Any], work: Callable[[], Any]) -> None:
        if not asked.set_running_or_notify_cancel():
            return
        self.goes_on()
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - whoever asked is told, and the thread lives on
            if not isinstance(error, self._expected):
                event("thread_failed", level="error", thread=self._name, error=repr(error))
            self._since = None
            asked.set_exception(error)
        else:
            self._since = None
            asked.set_result(result)
