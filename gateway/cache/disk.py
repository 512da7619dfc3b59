"""The second tier: embeddings in one SQLite file, for all processes and over restarts.

Why SQLite, and what it was measured against, is in design.md. The file is `disk_file.py`'s, the statements are
`disk_schema.py`'s, what changes them is `disk_writing.py`'s; nothing here waits for the disk on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.cache import disk_schema as schema
from gateway.cache.disk_file import DiskBusy, DiskFault, DiskFile
from gateway.cache.disk_health import OnLoop, Rest
from gateway.cache.disk_reading import Found, Keys, Readings
from gateway.cache.disk_seat import Seat
from gateway.cache.disk_thread import Desk
from gateway.cache.disk_writing import Life, Told, Writing, WritingWays
from gateway.cache.entry import Entry, unpack
from gateway.cache.keys import Space
from gateway.cache.settings import DiskTierSettings
from gateway.cache.tier import Counts, TierName, TierState
from gateway.logs import event

if TYPE_CHECKING:
    import apsw

T = TypeVar("T")
JITTER = 0.1
_CLOCK_SLACK = 60  # seconds that clocks may differ


@dataclass(frozen=True, slots=True)
class DiskWays:
    """How long to wait, in seconds, and how much may wait, in bytes; `vfs` is SQLite's way to the file system."""

    read_seconds: float = 1.0
    busy_seconds: float = 0.25
    lock_seconds: float = 5.0
    stuck_seconds: float = 10.0
    rest_seconds: float = 30.0
    busy_rest_seconds: float = 1.0
    gather_seconds: float = 0.05
    tend_seconds: float = 1.0
    closing_seconds: float = 2.0
    most_waiting: int = 16 << 20
    vfs: str = ""


class DiskTier:
    """The file in `directory`. Nothing is opened before it is used, and then in threads.

    `clock` gives Unix seconds, `dice` numbers in [0, 1). `counts` is told on the event loop.
    """

    name: TierName = "disk"

    def __init__(
        self,
        directory: Path,
        settings: DiskTierSettings,
        counts: Counts,
        clock: Callable[[], float],
        dice: Callable[[], float],
        *,
        ways: DiskWays = DiskWays(),
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._dice = dice
        self._ttl = settings.ttl_seconds
        self._most = settings.max_mb << 20
        self._ways = ways
        self._on_loop = OnLoop()
        self._used = False
        self._opening = Rest(("disk_cache_off", "disk_cache_on"), ways.rest_seconds, clock)
        self._busy = Rest(("disk_cache_busy", "disk_cache_answers"), ways.busy_rest_seconds, clock)
        self._refusal = Rest(("disk_cache_writes_paused", "disk_cache_writes_resumed"), ways.rest_seconds, clock)
        self._file = DiskFile(directory, self._set_aside, clock, lock_seconds=ways.lock_seconds, vfs=ways.vfs)
        self._seat = Seat(self._file, self._opening, ways.busy_seconds)
        self._reader = Desk("cache-disk-read", last=self._seat.close, expected=DiskFault)
        self._readings = Readings(
            self._reader,
            lambda keys: self._patiently(lambda: self._seat.run(lambda connection: self._find(connection, keys))),
            self._remove,
            self._note_silence,
            ways.read_seconds,
        )
        self._writing = Writing(
            Seat(self._file, self._opening, ways.busy_seconds * 8),
            self._refusal,
            WritingWays(self._most, ways.most_waiting, ways.gather_seconds, ways.tend_seconds, ways.stuck_seconds),
            Life(clock, self._until_of),
            Told(
                evicted=lambda entries, why: self._on_loop.do(counts.evicted, "disk", entries, why),
                failed=lambda: self._on_loop.do(counts.failed, "disk", "write"),
            ),
        )

    @property
    def is_stuck(self) -> bool:
        """Return whether a read took too long and is still not over."""
        return self._reader.busy_seconds > self._ways.read_seconds

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return what the file has of these keys; a disk that takes longer than a second is a miss."""
        wanted = dict.fromkeys(keys)
        if not wanted or self._opening.is_on or self._reader.closing.is_set():
            return {}
        self._use()
        found = None if self._is_impatient() else await self._readings.look(wanted)
        if found is None:
            self._counts.failed("disk", "read")
            found = {}
        self._counts.looked_up("disk", len(found), len(wanted) - len(found))
        return found

    def put_many(self, entries: Sequence[Entry], space: Space) -> None:
        """Take entries to be written soon, in batches."""
        if not entries:
            return
        self._use()
        if self._opening.is_on or not self._writing.put(entries, space):
            self._counts.failed("disk", "write")

    async def clear(self, label: str | None = None) -> int:
        """Forget everything, or what belongs to one `provider/model`; return how many entries."""
        if self._reader.closing.is_set():
            return 0
        self._use()
        return await self._written(self._writing.clear(label), 0)

    async def generation(self) -> int:
        """Return a number that is another one after any process cleared; compare for equality alone."""
        with suppress(DiskFault):  # what cannot be read now was not cleared by that
            self._file.generation = await self._read(lambda: self._look(schema.read_generation, 0))
        return self._file.generation

    async def labels(self) -> list[tuple[str, int, int]]:
        """Return (`provider/model`, entries, bytes) for each; raise OSError where the file cannot be read."""
        try:
            return await self._read(lambda: self._look(schema.read_labels, []))
        except DiskFault as fault:
            raise OSError(str(fault)) from fault

    async def iterate(self, at_once: int = 128) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (`provider/model`, packed entry) of all that are whole and not over, the oldest first.

        No lock is held between pages of `at_once`. Raises OSError where the file cannot be read.
        """
        after = 0
        while True:
            try:
                page = await self._read(partial(self._page, after, at_once))
            except DiskFault as fault:
                raise OSError(str(fault)) from fault
            if not page:
                return
            after, now = page[-1].id, self._clock()
            for row in page:
                if now < row.until <= self._latest(now) and unpack(row.packed, row.key) is not None:
                    yield row.label, row.packed

    async def flush(self) -> None:
        """Wait until everything that was put before is written, or the disk hangs."""
        if not self._reader.closing.is_set():
            await self._written(self._writing.flush(), None)

    async def state(self) -> TierState:
        """Return what the file holds; counted as it was written, not by looking at all of it."""
        trouble = self._opening.reason or self._refusal.reason
        try:
            entries, size = await self._read(lambda: self._look(_see, (0, 0)))
        except DiskFault as fault:
            return TierState("disk", None, None, self._most, trouble or str(fault))
        return TierState("disk", entries, size, self._most, trouble)

    async def close(self) -> None:
        """Write what waits and let go; at most two seconds."""
        seconds = self._ways.closing_seconds
        await asyncio.gather(self._writing.close(seconds), self._reader.close(seconds))

    def _use(self) -> None:
        self._on_loop.here()
        if not self._used:
            self._used = True
            self._writing.start()

    async def _read(self, work: Callable[[], T]) -> T:
        """Have work done by the reader; raise DiskFault, also where it takes too long."""
        if self._is_impatient():
            raise DiskBusy(self._busy.reason)
        if self._reader.closing.is_set():
            raise DiskBusy("it is closed")
        asked = self._reader.ask(lambda: self._patiently(work))
        try:
            async with asyncio.timeout(self._ways.read_seconds):  # Python 3.11's wait_for may lose a cancellation
                return await asyncio.wrap_future(asked)
        except TimeoutError as error:
            self._note_silence()
            raise DiskBusy(self._busy.reason) from error

    def _is_impatient(self) -> bool:
        """Return whether nobody is to wait for the disk now."""
        if self.is_stuck:
            self._note_silence()
        return self._busy.is_on

    def _note_silence(self) -> None:
        self._busy.failed("the disk does not answer")

    def _remove(self, damaged: list[int]) -> None:
        for _ in damaged:
            self._counts.damaged("disk", "entry")
        self._writing.remove(damaged)

    def _patiently(self, work: Callable[[], T]) -> T:
        """Wait for others, of all who asked, only once: they may have stopped for good."""
        if self._busy.is_on:
            raise DiskBusy(self._busy.reason)
        try:
            result = work()
        except DiskBusy as fault:
            self._busy.failed(str(fault))
            raise
        self._busy.worked()
        return result

    async def _written(self, asked: Future[T], otherwise: T) -> T:
        """Wait for the writer as long as it gets on."""
        writing = asyncio.wrap_future(asked)
        while not (await asyncio.wait({writing}, timeout=self._ways.stuck_seconds / 4))[0]:
            if self._writing.is_stuck:
                writing.cancel()
                self._counts.failed("disk", "write")
                return otherwise
        return writing.result()

    def _look(self, work: Callable[[apsw.Connection], T], otherwise: T) -> T:
        """Look without making a file where nobody used one yet."""
        if not self._used and self._file.identity() is None:
            return otherwise
        return self._seat.run(work)

    def _page(self, after: int, most: int) -> list[schema.Row]:
        return self._look(lambda connection: schema.read_page(connection, after, most), [])

    def _find(self, connection: apsw.Connection, keys: Keys) -> Found:
        found = Found()
        entries, now = found.entries, self._clock()
        latest = self._latest(now)
        for id_, key, until, packed in schema.read_rows(connection, list(keys)):
            entry = unpack(packed, key)
            if entry is None:
                found.damaged.append(id_)
            elif now < until <= latest and key in keys and not 0 < entry.until <= now:
                entries[key] = entry
        return found

    def _latest(self, now: float) -> float:
        """Return the latest end that an entry may have: what lives longer than the settings allow by now is over, too."""
        return now + self._ttl * (1 + JITTER) + _CLOCK_SLACK

    def _until_of(self, entry: Entry) -> int:
        until = int(self._clock() + self._ttl * (1 - JITTER + 2 * JITTER * self._dice()))
        return min(until, entry.until) if entry.until else until

    def _set_aside(self, name: str, why: str) -> None:
        event("disk_cache_set_aside", level="warning", file=name, reason=why)
        self._on_loop.do(self._counts.damaged, "disk", "file")


def _see(connection: apsw.Connection) -> tuple[int, int]:
    return sum(entries for _, entries, _ in schema.read_labels(connection)), schema.size_of(connection)
