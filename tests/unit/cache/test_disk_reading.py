"""Look-ups that are read together: each gets its own, whoever else leaves, whatever fails, and in time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cache.disk_file import DiskBusy
from gateway.cache.disk_reading import MOST_KEYS, Found, Keys, Readings
from gateway.cache.disk_thread import Desk
from gateway.cache.entry import Entry
from tests.support.cache_disk import SPACE, Seen, entries_of, open_tier, until

ENTRIES = {entry.key: entry for entry in entries_of(range(2000), 1)}
KEYS = list(ENTRIES)
UNKNOWN = b"?" * 32
SHORT_SECONDS = 0.05


class Shelf:
    """What the thread reads from; notes which keys it is asked for together, and waits while it is held."""

    def __init__(self, seconds: float = 5.0) -> None:
        self.asked: list[list[bytes]] = []
        self.damaged: list[int] = []
        self.error: Exception | None = None
        self.told: list[list[int]] = []
        self.late = 0
        self.free = threading.Event()
        self.free.set()
        self.desk = Desk("shelf", last=lambda: None, expected=DiskBusy)
        self.readings = Readings(self.desk, self.find, self.told.append, self.be_late, seconds)

    def find(self, keys: Keys) -> Found:
        self.asked.append(list(keys))
        self.free.wait(10)
        if self.error is not None:
            raise self.error
        return Found({key: ENTRIES[key] for key in keys if key in ENTRIES}, list(self.damaged))

    def be_late(self) -> None:
        self.late += 1

    def look(self, keys: Sequence[bytes]) -> asyncio.Task[dict[bytes, Entry] | None]:
        return asyncio.create_task(self.readings.look(dict.fromkeys(keys)))


@asynccontextmanager
async def busy(seconds: float = 5.0) -> AsyncIterator[Shelf]:
    """Have a thread that reads something of its own until `free` is set."""
    shelf = Shelf(seconds)
    shelf.free.clear()
    first = shelf.look(KEYS[:1])
    await until(lambda: shelf.asked)
    yield shelf
    shelf.free.set()
    await first
    await shelf.desk.close(5)


def of(*keys: bytes) -> dict[bytes, Entry]:
    return {key: ENTRIES[key] for key in keys}


async def test_who_asks_while_the_thread_is_busy_is_read_for_together_and_gets_what_is_its_own() -> None:
    async with busy() as shelf:
        looks = [shelf.look(keys) for keys in (KEYS[1:3], KEYS[2:4], [UNKNOWN, KEYS[4]], [UNKNOWN])]
        await asyncio.sleep(0)

        shelf.free.set()
        found = await asyncio.gather(*looks)

    assert found == [of(*KEYS[1:3]), of(*KEYS[2:4]), of(KEYS[4]), {}]
    assert [len(keys) for keys in shelf.asked] == [1, 5]


async def test_one_that_leaves_takes_nothing_from_the_others() -> None:
    async with busy() as shelf:
        leaving, staying = shelf.look(KEYS[1:3]), shelf.look(KEYS[2:4])
        await asyncio.sleep(0)

        leaving.cancel()
        await asyncio.sleep(0)
        shelf.free.set()

        assert await staying == of(*KEYS[2:4])
    assert leaving.cancelled()


async def test_what_nobody_waits_for_any_more_is_not_read_and_is_no_fault_of_the_disk() -> None:
    async with busy(5 * SHORT_SECONDS) as shelf:
        leaving = shelf.look(KEYS[1:3])
        await asyncio.sleep(0)

        leaving.cancel()
        await asyncio.sleep(0)
        shelf.free.set()
        await until(lambda: shelf.desk.busy_seconds == 0)
        await asyncio.sleep(8 * SHORT_SECONDS)  # its time would be over by now

    assert shelf.late == 0
    assert shelf.asked == [KEYS[:1]]


async def test_a_disk_that_is_late_is_a_miss_for_all_and_each_of_their_readings_tells_of_it() -> None:
    async with busy(SHORT_SECONDS) as shelf:
        looks = [shelf.look(keys) for keys in (KEYS[1:3], KEYS[2:4])]

        assert await asyncio.gather(*looks) == [None, None]
        assert shelf.late == 2
        shelf.free.set()
        assert await shelf.look(KEYS[1:3]) == of(*KEYS[1:3])


async def test_who_asks_after_a_reading_was_given_up_is_not_kept_waiting_for_it() -> None:
    async with busy(SHORT_SECONDS) as shelf:
        await shelf.look(KEYS[1:3])

        async with asyncio.timeout(20 * SHORT_SECONDS):
            assert await shelf.look(KEYS[2:4]) is None


async def test_a_damaged_row_is_told_of_once_for_all_who_asked() -> None:
    async with busy() as shelf:
        looks = [shelf.look(keys) for keys in (KEYS[1:3], KEYS[2:4], [UNKNOWN])]
        await asyncio.sleep(0)

        shelf.damaged = [7, 8]
        shelf.free.set()
        await asyncio.gather(*looks)

    assert shelf.told == [[7, 8]] * 2  # by what the thread was busy with, and by what was read for the three
    assert len(shelf.asked) == 2


async def test_no_more_than_so_many_keys_are_read_together_unless_one_asks_for_them_alone() -> None:
    sizes = (MOST_KEYS - 212, 212, 100, MOST_KEYS + 100, 1)
    async with busy() as shelf:
        start, looks = 0, []
        for size in sizes:
            looks.append(shelf.look(KEYS[start : start + size]))
            start += size
        await asyncio.sleep(0)

        shelf.free.set()
        found = await asyncio.gather(*looks)

    assert [len(part or ()) for part in found] == list(sizes)
    assert [len(keys) for keys in shelf.asked] == [1, MOST_KEYS, 100, MOST_KEYS + 100, 1]


@pytest.mark.parametrize("error", [DiskBusy("held"), KeyError("a defect"), MemoryError()], ids=repr)
async def test_a_reading_that_fails_is_a_miss_for_all_at_once_and_the_next_one_is_read(error: Exception) -> None:
    async with busy() as shelf:
        looks = [shelf.look(keys) for keys in (KEYS[1:3], KEYS[2:4])]
        await asyncio.sleep(0)
        shelf.error = error
        shelf.free.set()

        async with asyncio.timeout(2):
            assert await asyncio.gather(*looks) == [None, None]
        shelf.error = None
        assert await shelf.look(KEYS[1:3]) == of(*KEYS[1:3])
    assert shelf.late == 0


async def test_a_desk_that_closes_answers_those_who_asked_before() -> None:
    async with busy() as shelf:
        looks = [shelf.look(keys) for keys in (KEYS[1:3], KEYS[2:4])]
        await asyncio.sleep(0)
        closing = asyncio.create_task(shelf.desk.close(5))
        await asyncio.sleep(0)

        shelf.free.set()

        assert await asyncio.gather(*looks) == [of(*KEYS[1:3]), of(*KEYS[2:4])]
        await closing


def test_a_loop_that_ended_leaves_nothing_that_another_would_wait_for() -> None:
    shelf = Shelf()
    shelf.free.clear()

    async def leave() -> None:
        read = shelf.look(KEYS[:1])
        await until(lambda: shelf.asked)
        gathered = shelf.look(KEYS[1:2])
        await asyncio.sleep(0)
        assert not read.done()
        assert not gathered.done()

    async def look() -> dict[bytes, Entry] | None:
        looking = shelf.look(KEYS[1:3])
        await asyncio.sleep(0)
        shelf.free.set()
        async with asyncio.timeout(2):
            found = await looking
        await shelf.desk.close(5)
        return found

    asyncio.run(leave())

    assert asyncio.run(look()) == of(*KEYS[1:3])


async def test_many_requests_at_once_find_each_its_own_in_the_file(tmp_path: Path) -> None:
    seen = Seen()
    tier = open_tier(tmp_path, seen)
    tier.put_many(list(ENTRIES.values()), SPACE)
    await tier.flush()
    wanted = [[*KEYS[start : start + start % 40 + 1], UNKNOWN] for start in range(300)]

    found = await asyncio.gather(*map(tier.get_many, wanted))

    assert found == [of(*keys[:-1]) for keys in wanted]
    assert seen.all["hits"] == sum(map(len, found))
    assert seen.all["misses"] == len(wanted)
    await tier.close()
