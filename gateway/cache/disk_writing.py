"""What changes the file: entries in batches, evictions and expiries in small steps, clearing. All in one thread.

Nothing here is waited for by a request. What waits to be written is bounded in bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from gateway.cache import disk_schema as schema
from gateway.cache.disk_file import DiskBusy, DiskDamaged, DiskFault, DiskTrouble, judged
from gateway.cache.disk_health import Rest
from gateway.cache.disk_seat import Seat
from gateway.cache.disk_thread import Desk
from gateway.cache.entry import HEADER_BYTES, Entry, pack
from gateway.cache.keys import Space

if TYPE_CHECKING:
    import apsw

MOST_ROWS = 64  # of a transaction, before readers have their turn
STEPS_AT_ONCE = 8  # before other processes have theirs
OTHERS_TURN_SECONDS = 0.01
BATCH_BYTES = 1 << 20
_Fresh = tuple[bytes, int, bytes]  # key, until, packed


@dataclass(frozen=True, slots=True)
class WritingWays:
    """`most` bytes of the file and its journal; `most_waiting` bytes; entries are gathered for `gather_seconds`.

    What is not over after `stuck_seconds` is not waited for.
    """

    most: int
    most_waiting: int
    gather_seconds: float
    tend_seconds: float
    stuck_seconds: float


@dataclass(frozen=True, slots=True)
class Life:
    """What time it is, and until when an entry is to be kept, both in Unix seconds."""

    now: Callable[[], float]
    until_of: Callable[[Entry], int]


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told, in the writer's thread."""

    evicted: Callable[[int, Literal["size", "expired"]], None]
    failed: Callable[[], None]


class Writing:
    """The writer's thread; `rest` is for writes alone."""

    def __init__(
        self,
        seat: Seat,
        rest: Rest,
        ways: WritingWays,
        life: Life,
        told: Told,
    ) -> None:
        self._seat = seat
        self._rest = rest
        self._most, self._rows = _shares(ways.most)
        self._ways = ways
        self._life = life
        self._told = told
        self._lock = threading.Lock()
        self._waiting: list[tuple[Space, list[Entry]]] = []
        self._waiting_bytes = 0
        self._desk = Desk(
            "cache-disk-write", last=seat.close, expected=DiskFault, idle=self._tend, every=ways.tend_seconds
        )

    @property
    def is_stuck(self) -> bool:
        """Return whether the disk hangs; if so, it is left alone."""
        if self._desk.busy_seconds <= self._ways.stuck_seconds:
            return False
        self._rest.failed("the disk does not answer")
        return True

    def start(self) -> None:
        """Begin to tend the file, if that has not begun."""
        self._desk.ask(_nothing)

    def put(self, entries: Sequence[Entry], space: Space) -> bool:
        """Take entries, of any thread; return whether there was room for all of them."""
        if self._rest.is_on or self._desk.closing.is_set() or self.is_stuck:
            return False
        taken: list[Entry] = []
        with self._lock:
            for entry in entries:
                size = len(entry.vector) + HEADER_BYTES
                if self._waiting_bytes + size > self._ways.most_waiting:
                    break
                self._waiting_bytes += size
                taken.append(entry)
            is_first = not self._waiting
            if taken:
                self._waiting.append((space, taken))
        if taken and is_first:
            self._desk.ask(self._gather)
        return len(taken) == len(entries)

    def remove(self, ids: Sequence[int]) -> None:
        """Forget damaged rows."""

        def work(connection: apsw.Connection) -> bool:
            with schema.writing(connection):
                schema.delete_ids(connection, ids)
            return False

        self._desk.ask(lambda: self._try(work))

    def flush(self) -> Future[None]:
        """Have written what waits."""
        return self._desk.ask(self._write_waiting)

    def clear(self, label: str | None) -> Future[int]:
        """Forget all, or what has this label, also of what was put before; the result is how many entries went."""
        return self._desk.ask(lambda: self._clear(label))

    async def close(self, seconds: float) -> None:
        """Write what waits, in that time."""
        await self._desk.close(seconds)

    def _gather(self) -> None:
        self._desk.closing.wait(self._ways.gather_seconds)
        self._write_waiting()

    def _write_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for space, batch in self._batches(waiting):
            self._desk.goes_on()
            while self._try(partial(self._insert, space=space, batch=batch)):
                self._desk.goes_on()
                self._desk.closing.wait(OTHERS_TURN_SECONDS)

    def _batches(self, waiting: list[tuple[Space, list[Entry]]]) -> Iterator[tuple[Space, list[_Fresh]]]:
        most = min(BATCH_BYTES, self._most // 8)
        for space, entries in _by_space(waiting):
            batch: list[_Fresh] = []
            size = 0
            for entry in entries:
                packed = pack(entry)
                if batch and (size + len(packed) > most or len(batch) >= self._rows):
                    yield space, batch
                    batch, size = [], 0
                batch.append((entry.key, self._life.until_of(entry), packed))
                size += len(packed)
            yield space, batch

    def _insert(self, connection: apsw.Connection, space: Space, batch: list[_Fresh]) -> bool:
        """Return whether it is to be done again, because there is more to be evicted first."""
        needed = schema.room_for(batch)
        if needed > self._most // 2:  # nothing else would be kept
            self._told.failed()
            return False
        if not self._make_room(connection, needed):
            return True
        with schema.writing(connection):
            schema.insert(connection, space.id, space.label, batch)
        return False

    def _make_room(self, connection: apsw.Connection, needed: int) -> bool:
        """Evict some of the oldest; return whether there is room now."""
        for _ in range(STEPS_AT_ONCE):
            over = schema.used_of(connection) + needed - self._most
            if over <= 0:
                return True
            with schema.writing(connection):
                gone = schema.delete_oldest(connection, self._rows, over)
                if not gone and not schema.delete_empty_labels(connection):
                    raise DiskDamaged("it is full of nothing")
            if gone:
                self._told.evicted(gone, "size")
        return False

    def _tend(self) -> None:
        try:
            for _ in range(STEPS_AT_ONCE):
                if self._rest.is_on or not self._seat.run(self._is_due):
                    return
                self._seat.run(self._step, alone=True)
                self._desk.goes_on()
        except DiskFault as fault:
            self._pause(fault)

    def _is_due(self, connection: apsw.Connection) -> bool:
        return schema.size_of(connection) > self._most or schema.has_expired(connection, int(self._life.now()))

    def _step(self, connection: apsw.Connection) -> None:
        with schema.writing(connection):
            gone = schema.delete_expired(connection, int(self._life.now()), self._rows)
        if gone:
            self._told.evicted(gone, "expired")
        if schema.size_of(connection) > self._most:
            self._make_room(connection, 0)
            schema.give_back(connection, MOST_ROWS)

    def _try(self, work: Callable[[apsw.Connection], bool]) -> bool:
        """Do work alone and return its result; what does not come about is counted, and a failing disk is left alone."""
        if self._rest.is_on:
            self._told.failed()
            return False
        try:
            result = self._seat.run(work, alone=True)
        except DiskFault as fault:
            self._pause(fault)
            self._told.failed()
            return False
        self._rest.worked()
        return result

    def _pause(self, fault: DiskFault) -> None:
        """Leave a failing disk alone, and one that was waited for in vain; a damaged file may be better the next time."""
        if isinstance(fault, DiskTrouble | DiskBusy) and not self._seat.is_off:
            self._rest.failed(str(fault))

    def _clear(self, label: str | None) -> int:
        try:
            gone = self._clear_all() if label is None else self._clear_label(label)
        except DiskFault as fault:
            self._pause(fault)
            self._told.failed()
            return 0
        self._rest.worked()
        return gone

    def _clear_all(self) -> int:
        entries = self._seat.run(_see_all)[0]
        identity = self._seat.file.identity()
        with judged():
            self._seat.file.build(identity, self._seat.run(schema.read_generation) + 1)
        return entries

    def _clear_label(self, label: str) -> int:
        gone = 0

        def work(connection: apsw.Connection) -> int:
            with schema.writing(connection):
                step = schema.delete_label(connection, label, self._rows)
                if step < self._rows:
                    schema.bump_generation(connection)
            return step

        step = self._rows
        while step == self._rows:
            step = self._seat.run(work, alone=True)
            self._desk.goes_on()
            gone += step
        return gone


def _by_space(waiting: Iterable[tuple[Space, list[Entry]]]) -> Iterator[tuple[Space, list[Entry]]]:
    """Yield the entries of many requests for each space together, the latest of each key: a transaction costs most."""
    found: dict[bytes, tuple[Space, dict[bytes, Entry]]] = {}
    for space, entries in waiting:
        _, latest = found.setdefault(space.id, (space, {}))
        for entry in entries:
            latest.pop(entry.key, None)
            latest[entry.key] = entry
    for space, latest in found.values():
        yield space, list(latest.values())


def _shares(most: int) -> tuple[int, int]:
    """Return the bytes that the file may take, the rest being for its journal, and how many rows a transaction may have.

    A row changes a page in each of three indexes, and one of its own, and the journal keeps what they were.
    """
    for_journal = min(most // 8, MOST_ROWS * 4 * schema.PAGE_BYTES)
    return most - for_journal, for_journal // (4 * schema.PAGE_BYTES)


def _see_all(connection: apsw.Connection) -> tuple[int, int]:
    return sum(entries for _, entries, _ in schema.read_labels(connection)), schema.size_of(connection)


def _nothing() -> None:
    return None
