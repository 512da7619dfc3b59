"""Look-ups of several requests in one: whoever asks while the reader's thread is busy is read for together with others.

A thread costs more to wake than a few rows do to read. Nobody waits longer than the bound for a disk that does not answer;
what is read, and what becomes of a damaged row, is decided by the tier.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from gateway.cache.disk_file import DiskFault
from gateway.cache.disk_thread import Desk
from gateway.cache.entry import Entry

MOST_KEYS = 512  # of one reading, before others have their turn

Keys = Mapping[bytes, None]


@dataclass(slots=True)
class Found:
    """The whole and living entries among those that were asked for, and the ids of rows that are damaged."""

    entries: dict[bytes, Entry] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Reading:
    """What is read for some requests of one loop together; a result of None stands for a disk that failed."""

    loop: asyncio.AbstractEventLoop
    wanted: dict[bytes, None] = field(default_factory=dict)
    looks: list[tuple[Keys, asyncio.Future[dict[bytes, Entry] | None]]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Readings:
    """Gathers look-ups for the thread of `desk`, in which `find` reads; it may raise DiskFault.

    On the loop `damaged` is told of damaged rows, and `late` that something took more than `seconds`.
    """

    def __init__(
        self,
        desk: Desk,
        find: Callable[[Keys], Found],
        damaged: Callable[[list[int]], None],
        late: Callable[[], None],
        seconds: float,
    ) -> None:
        self._desk = desk
        self._find = find
        self._damaged = damaged
        self._late = late
        self._seconds = seconds
        self._lock = threading.Lock()
        self._open: _Reading | None = None

    async def look(self, keys: Keys) -> dict[bytes, Entry] | None:
        """Return what there is of these keys, None where the disk failed or did not answer in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[bytes, Entry] | None] = loop.create_future()
        with self._lock:
            reading = self._open
            if reading is None or reading.loop is not loop or len(reading.wanted) + len(keys) > MOST_KEYS:
                reading = self._open = _Reading(loop)
            is_new = not reading.looks
            reading.wanted.update(keys)
            reading.looks.append((keys, answer))
        if is_new:
            reading.timer = loop.call_later(self._seconds, self._give_up, reading)
            self._desk.ask(partial(self._read, reading))
        return await answer

    def _close(self, reading: _Reading) -> None:
        """Let nobody join any more."""
        with self._lock:
            if self._open is reading:
                self._open = None

    def _read(self, reading: _Reading) -> None:
        self._close(reading)
        if all(answer.done() for _, answer in reading.looks):  # all have left, or were told that it takes too long
            return
        found = None
        try:
            with suppress(DiskFault):
                found = self._find(reading.wanted)
        finally:  # nobody waits for what failed in another way
            with suppress(RuntimeError):  # the loop has ended
                reading.loop.call_soon_threadsafe(self._deliver, reading, found)

    def _deliver(self, reading: _Reading, found: Found | None) -> None:
        if reading.timer is not None:
            reading.timer.cancel()
        for keys, answer in reading.looks:
            if answer.done():
                continue
            if found is None or len(reading.looks) == 1:
                answer.set_result(None if found is None else found.entries)
            else:
                answer.set_result({key: found.entries[key] for key in keys if key in found.entries})
        if found is not None and found.damaged:
            self._damaged(found.damaged)

    def _give_up(self, reading: _Reading) -> None:
        self._close(reading)  # whoever joined now would wait without a bound
        waiting = [answer for _, answer in reading.looks if not answer.done()]
        if waiting:  # and not left before anything was read
            self._late()
        for answer in waiting:
            answer.set_result(None)
