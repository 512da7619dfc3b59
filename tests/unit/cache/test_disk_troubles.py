"""A disk that fails: what cannot be read is a miss, what cannot be written is left out, and the log says so once."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from tests.support.cache_disk import (
    HASTY,
    NOW,
    SPACE,
    Clock,
    FailingDisk,
    Seen,
    entries_of,
    entry_of,
    open_tier,
    until,
)

ENTRIES = entries_of(range(30))
KEYS = [entry.key for entry in ENTRIES]
NAME = "embeddings.sqlite"


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    """Return a way to the file system that fails when told to."""
    failing = FailingDisk("failing")
    yield failing
    failing.unregister()


async def test_a_write_that_fails_is_counted_and_writes_are_left_alone_for_half_a_minute(
    tmp_path: Path, disk: FailingDisk, capfd: pytest.CaptureFixture[str]
) -> None:
    seen, clock = Seen(), Clock()
    tier = open_tier(tmp_path, seen, clock=clock, ways=replace(HASTY, vfs="failing"))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()

    disk.failing = {"xWrite"}
    for turn in range(5):
        tier.put_many([entry_of(f"left out {turn}")], SPACE)
        await tier.flush()
    during = (len(await tier.get_many(KEYS)), (await tier.state()).trouble != "")
    disk.failing = set()
    tier.put_many([entry_of("too early")], SPACE)
    clock.now += 30
    tier.put_many([entry_of("later")], SPACE)
    await tier.flush()

    assert during == (30, True)
    assert len(await tier.get_many([entry_of(text).key for text in ("left out 4", "too early", "later")])) == 1
    assert seen.all["failed write"] == 6
    assert seen.all["damaged file"] == 0
    assert (await tier.state()).trouble == ""
    told = capfd.readouterr().err
    assert (told.count("disk_cache_writes_paused"), told.count("disk_cache_writes_resumed")) == (1, 1)
    await tier.close()


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 10, 20, 25, 30, 40, 50, 60, 80])
async def test_a_disk_that_fails_anywhere_in_a_write_leaves_whole_entries(
    tmp_path: Path, disk: FailingDisk, error: type[Exception], after: int
) -> None:
    tier = open_tier(tmp_path, ways=replace(HASTY, vfs="failing"))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    more = entries_of(range(100, 160), 256)

    disk.error, disk.fail_at = error, ("xWrite", disk.calls["xWrite"] + after)
    tier.put_many(more, SPACE)
    await tier.flush()
    disk.failing, disk.fail_at = set(), None
    found = await tier.get_many([*KEYS, *(entry.key for entry in more)])
    await tier.close()

    again = open_tier(tmp_path)
    assert found == await again.get_many([*KEYS, *(entry.key for entry in more)])
    assert found in ({entry.key: entry for entry in ENTRIES}, {entry.key: entry for entry in [*ENTRIES, *more]})
    await again.close()


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_file_that_cannot_be_read_is_left_alone_and_tried_again(
    tmp_path: Path, disk: FailingDisk, capfd: pytest.CaptureFixture[str], *, is_open: bool
) -> None:
    seen, clock = Seen(), Clock()
    first = open_tier(tmp_path)
    first.put_many(ENTRIES, SPACE)
    await first.close()
    tier = open_tier(tmp_path, seen, clock=clock, ways=replace(HASTY, vfs="failing", tend_seconds=60))
    if is_open:
        await tier.get_many(KEYS)
    disk.failing = {"xRead"}

    missed = [await tier.get_many(KEYS) for _ in range(5)]
    disk.failing = set()
    still = await tier.get_many(KEYS)
    clock.now += 31
    found = await tier.get_many(KEYS)

    assert missed == [{}] * 5
    assert still == {}
    assert len(found) == 30
    assert seen.all["failed read"] == 1
    assert seen.all["damaged file"] == 0
    told = capfd.readouterr().err
    assert (told.count("disk_cache_off"), told.count("disk_cache_on"), told.count('"event"')) == (1, 1, 2)
    await tier.close()


async def test_a_file_where_the_directory_should_be_switches_the_tier_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen, clock = Seen(), Clock()
    place = tmp_path / "cache"
    place.write_text("in the way")
    tier = open_tier(place, seen, clock=clock)

    for _ in range(3):
        tier.put_many(ENTRIES, SPACE)
        await tier.flush()
        assert await tier.get_many(KEYS) == {}
    gone, trouble = await tier.clear(), (await tier.state()).trouble
    place.unlink()
    clock.now += 31
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()

    assert (gone, bool(trouble)) == (0, True)
    assert len(await tier.get_many(KEYS)) == 30
    assert seen.all["failed write"] >= 3
    assert capfd.readouterr().err.count('"warning"') == 1
    await tier.close()


async def test_a_disk_that_does_not_answer_is_waited_for_once(tmp_path: Path, disk: FailingDisk) -> None:
    seen = Seen()
    tier = open_tier(tmp_path, seen, ways=replace(HASTY, vfs="failing", read_seconds=0.2, tend_seconds=60))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    assert len(await tier.get_many(KEYS)) == 30
    held = threading.Event()
    disk.hold = ("xAccess", held)

    began = time.monotonic()
    missed = [await tier.get_many(KEYS) for _ in range(100)]
    seconds = time.monotonic() - began
    failed = seen.all["failed read"]
    held.set()
    disk.hold = None

    assert missed == [{}] * 100
    assert seconds < 100 * 0.2 / 4
    assert failed == 100
    async with asyncio.timeout(5):
        while len(await tier.get_many(KEYS)) < 30:  # it does not answer at once
            await asyncio.sleep(0.002)
    await tier.close()


@pytest.mark.filterwarnings("error")  # what a thread raises
async def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(tmp_path: Path, disk: FailingDisk) -> None:
    tier = open_tier(tmp_path, ways=replace(HASTY, vfs="failing", closing_seconds=0.05))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    held = threading.Event()
    disk.hold = ("xWrite", held)
    tier.put_many([entry_of("late")], SPACE)

    began = time.monotonic()
    await tier.close()
    seconds = time.monotonic() - began
    held.set()

    await until(lambda: not any(thread.name.startswith("cache-disk") for thread in threading.enumerate()))
    assert seconds < 2


async def test_a_lock_that_another_process_keeps_costs_writes_and_no_reads(tmp_path: Path) -> None:
    seen = Seen()
    clock = Clock()
    tier = open_tier(tmp_path, seen, clock=clock, ways=replace(HASTY, lock_seconds=0.02, tend_seconds=60))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    held = os.open(tmp_path / f"{NAME}.lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)

    tier.put_many([entry_of("left out")], SPACE)
    await tier.flush()
    during = await tier.get_many([*KEYS, entry_of("left out").key])
    os.close(held)
    clock.now += 30
    tier.put_many([entry_of("later")], SPACE)
    await tier.flush()

    assert len(during) == 30
    assert len(await tier.get_many([entry_of("later").key])) == 1
    assert seen.all["failed write"] == 1
    await tier.close()


async def test_a_clock_that_is_set_back_does_not_prolong_a_pause(tmp_path: Path, disk: FailingDisk) -> None:
    clock = Clock()
    tier = open_tier(tmp_path, clock=clock, ways=replace(HASTY, vfs="failing"))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    disk.failing = {"xWrite"}
    tier.put_many([entry_of("left out")], SPACE)
    await tier.flush()

    disk.failing = set()
    clock.now = NOW - 10_000
    tier.put_many([entry_of("later")], SPACE)
    await tier.flush()

    assert len(await tier.get_many([entry_of("later").key])) == 1
    await tier.close()
