"""Entries in this process's memory: the least recently used go first, and none stays longer than its time.

The bound is on the bytes that are really used: each entry's own memory is added up as it comes and goes, the table's is
asked of Python. That is counted twice and as the largest it ever was, because it is copied every so often and grows and
shrinks by halves, which would leave the heap with holes. Measured with CPython 3.11 on Linux
(tests/unit/cache/test_memory_bound.py): around its numbers an entry takes 600 to 850 bytes, a tenth of 1,536 numbers,
and after a million inserts the process has grown by what is added up here to within a few percent. Nothing here waits
or is safe for threads.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from gateway.cache.entry import KEY_BYTES, SPACE_BYTES, Entry
from gateway.cache.keys import Space, make_space
from gateway.cache.settings import MemoryTierSettings
from gateway.cache.tier import Counts, TierName, TierState

LARGEST_SHARE = 8  # an entry that takes more than this part of the bound would push out too many others
JITTER = 0.1  # of the time to live, up and down: what came together does not go together

_MIB = 1024 * 1024
_LINK = 64  # bytes of an OrderedDict's link in its block
_LARGE = 1 << 31  # an integer that Python does not keep ready


def _block(size: int) -> int:
    """Return what the allocator takes for `size` bytes: its blocks are multiples of 16, a large one has a head of 8."""
    return (size + 23) & ~15


_EMPTY_VECTOR = sys.getsizeof(b"")
_SAMPLE = Entry(bytes(KEY_BYTES), bytes(SPACE_BYTES), b"")
# What an entry takes besides its vector and its place in the table: itself, its key, its space, three numbers that may
# be objects of their own, and the pair in which it is kept.
_AROUND = sum(
    _block(sys.getsizeof(part))
    for part in (_SAMPLE, _SAMPLE.key, _SAMPLE.space, _LARGE, _LARGE, _LARGE, (0.5, _SAMPLE), 0.5)
)


def memory_of(entry: Entry) -> int:
    """Return the bytes of memory that an entry takes, without its place in the table."""
    return _AROUND + _block(_EMPTY_VECTOR + len(entry.vector))


class MemoryTier:
    """The first tier; `clock` gives Unix seconds, `dice` numbers in [0, 1)."""

    name: TierName = "memory"

    def __init__(
        self, settings: MemoryTierSettings, counts: Counts, clock: Callable[[], float], dice: Callable[[], float]
    ) -> None:
        self._most = settings.max_mb * _MIB
        self._ttl = settings.ttl_seconds
        self._longest = settings.ttl_seconds * (1 + JITTER)
        self._counts = counts
        self._clock = clock
        self._dice = dice
        self._held: OrderedDict[bytes, tuple[float, Entry]] = OrderedDict()  # (when it is over, it), oldest use first
        self._used = 0  # bytes, without the table
        self._table = 0  # bytes, the most that it ever took

    @property
    def size(self) -> int:
        """The bytes of memory in use, the table's own included."""
        links = _LINK * len(self._held)
        self._table = max(self._table, 2 * (sys.getsizeof(self._held) - links))
        return self._used + links + self._table

    def get_many_now(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return what there is of these keys, without waiting."""
        found = self.peek_many(keys)
        self.count(keys, found)
        return found

    def peek_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return what there is of these keys and count nothing; what is found has been used."""
        held, now = self._held, self._clock()
        latest = now + self._longest  # beyond it nothing can be meant: the clock was set back
        found: dict[bytes, Entry] = {}
        over: list[bytes] = []
        for key in keys:
            kept = held.get(key)
            if kept is None:
                continue
            if now < kept[0] <= latest:
                found[key] = kept[1]
                held.move_to_end(key)
            else:
                over.append(key)
        if over:
            self._expire(over)
        return found

    def count(self, keys: Sequence[bytes], found: dict[bytes, Entry]) -> None:
        """Count a look-up for `keys` that found `found`."""
        hits = len(found) if len(found) == len(keys) else sum(key in found for key in keys)
        self._counts.looked_up(self.name, hits, len(keys) - hits)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        return self.get_many_now(keys)

    def put_many(self, entries: Sequence[Entry], space: Space) -> None:
        """Take entries to be kept, but those that are too large or over already; the oldest make room."""
        held, now = self._held, self._clock()
        evicted = 0
        for entry in entries:
            self._drop(entry.key)
            over = now + self._ttl * (1 + JITTER * (2 * self._dice() - 1))
            if entry.until:
                over = min(over, entry.until)
            size = memory_of(entry)
            if over <= now or size * LARGEST_SHARE > self._most:
                continue
            held[entry.key] = (over, entry)
            self._used += size
            evicted += self._make_room()
        if evicted:
            self._counts.evicted(self.name, evicted, "size")

    def sweep(self, most: int) -> int:
        """Drop what is over its time among the `most` least recently used; return how many those were.

        What nobody asked for is dropped at the latest when it could not be alive any more, whatever its jitter was.
        """
        now = self._clock()
        latest = now + self._longest
        over = [key for key, (end, _) in islice(self._held.items(), most) if not now < end <= latest]
        if over:
            self._expire(over)
        return len(over)

    def clear_now(self, label: str | None = None) -> int:
        """Forget everything, or what belongs to one `provider/model`, without waiting; return how many entries."""
        if label is None:
            count = len(self._held)
            self._held.clear()
            self._used = self._table = 0
            return count
        space = make_space(scope="", label=label, revision="", fields={}).id
        gone = [key for key, (_, entry) in self._held.items() if entry.space == space]
        for key in gone:
            self._drop(key)
        return len(gone)

    async def clear(self, label: str | None = None) -> int:
        return self.clear_now(label)

    async def state(self) -> TierState:
        return TierState(self.name, len(self._held), self.size, self._most)

    async def close(self) -> None:
        """Let go of everything."""
        self.clear_now()

    def _make_room(self) -> int:
        evicted = 0
        while self._held and self.size > self._most:
            _, (_, entry) = self._held.popitem(last=False)
            self._used -= memory_of(entry)
            evicted += 1
        return evicted

    def _expire(self, keys: list[bytes]) -> None:
        dropped = sum(self._drop(key) for key in keys)
        if dropped:
            self._counts.evicted(self.name, dropped, "expired")

    def _drop(self, key: bytes) -> bool:
        kept = self._held.pop(key, None)
        if kept is None:
            return False
        self._used -= memory_of(kept[1])
        return True
