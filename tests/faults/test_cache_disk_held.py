"""A disk that hangs, and a process that was stopped while it holds a lock: others wait for neither, and say so."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from tests.support.cache_disk import HASTY, SPACE, Clock, FailingDisk, Seen, entries_of, entry_of, open_tier

ENTRIES = entries_of(range(30))
KEYS = [entry.key for entry in ENTRIES]
NAME = "embeddings.sqlite"


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    """Return a way to the file system that hangs when told to, until the test is over."""
    hanging = FailingDisk("hanging")
    yield hanging
    if hanging.hold is not None:
        hanging.hold[1].set()
    hanging.unregister()


def told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]


async def test_a_read_that_hangs_is_waited_for_only_by_those_who_asked_before_it_was_known(
    tmp_path: Path, disk: FailingDisk, capfd: pytest.CaptureFixture[str]
) -> None:
    ways = replace(HASTY, vfs="hanging", read_seconds=0.3, tend_seconds=60)
    tier = open_tier(tmp_path, ways=ways, clock=time.time)
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    await tier.get_many(KEYS)
    disk.hold = ("xAccess", threading.Event())

    given_up = asyncio.create_task(tier.get_many(KEYS))
    await asyncio.sleep(0)
    queued = [asyncio.create_task(tier.get_many(KEYS)) for _ in range(3)]
    await asyncio.sleep(0)
    given_up.cancel()
    missed = await asyncio.gather(*queued)
    began = time.monotonic()
    late = [await tier.get_many(KEYS) for _ in range(50)]
    seconds = time.monotonic() - began
    disk.hold[1].set()
    while not await tier.get_many(KEYS):
        await asyncio.sleep(0.01)

    assert (missed, late) == ([{}] * 3, [{}] * 50)
    assert seconds < 50 * 0.3 / 4
    assert told(capfd) == ["disk_cache_busy", "disk_cache_answers"]
    await tier.close()


async def test_a_process_stopped_in_its_commit_holds_nobody_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen, clock = Seen(), Clock()
    tier = open_tier(tmp_path, seen, clock=clock, ways=replace(HASTY, busy_seconds=0.2, tend_seconds=60))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    await tier.get_many(KEYS)
    stopped = apsw.Connection(str(tmp_path / NAME))
    stopped.execute("BEGIN EXCLUSIVE")

    began = time.monotonic()
    missed = await asyncio.gather(*(tier.get_many(KEYS) for _ in range(25)))
    missed += [await tier.get_many(KEYS) for _ in range(25)]
    seconds = time.monotonic() - began
    trouble = (await tier.state()).trouble
    stopped.close()
    clock.now += 1
    found = await tier.get_many(KEYS)

    assert missed == [{}] * 50
    assert seconds < 50 * 0.2 / 4
    assert trouble
    assert len(found) == 30
    assert seen.all["failed read"] == 50
    assert told(capfd) == ["disk_cache_busy", "disk_cache_answers"]
    await tier.close()


async def test_what_cannot_be_read_is_not_taken_for_cleared(tmp_path: Path) -> None:
    clock = Clock()
    tier = open_tier(tmp_path, clock=clock, ways=replace(HASTY, busy_seconds=0.01, tend_seconds=60))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    before = await tier.generation()
    await tier.clear(SPACE.label)
    cleared = await tier.generation()
    stopped = apsw.Connection(str(tmp_path / NAME))
    stopped.execute("BEGIN EXCLUSIVE")

    during = await tier.generation()
    stopped.close()
    clock.now += 1

    assert before != cleared
    assert during == cleared == await tier.generation()
    await tier.close()


async def test_a_process_stopped_with_the_lock_makes_others_pause_their_writes_and_not_wait_with_each(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen, clock = Seen(), Clock()
    tier = open_tier(tmp_path, seen, clock=clock, ways=replace(HASTY, lock_seconds=0.2, tend_seconds=60))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    stopped = os.open(tmp_path / f"{NAME}.lock", os.O_RDWR)
    fcntl.flock(stopped, fcntl.LOCK_EX)

    began = time.monotonic()
    for number in range(20):
        tier.put_many([entry_of(f"left out {number}")], SPACE)
        await tier.flush()
    seconds = time.monotonic() - began
    during, trouble, gone = await tier.get_many(KEYS), (await tier.state()).trouble, await tier.clear()
    os.close(stopped)
    clock.now += 30
    tier.put_many([entry_of("later")], SPACE)
    await tier.flush()

    assert seconds < 20 * 0.2 / 4
    assert (len(during), gone) == (30, 0)
    assert "lock" in trouble
    assert len(await tier.get_many([entry_of("later").key])) == 1
    assert seen.all["failed write"] == 21
    assert told(capfd) == ["disk_cache_writes_paused", "disk_cache_writes_resumed"]
    await tier.close()


class SlowDisk(FailingDisk):
    """Takes its time for each page that is written."""

    def meet(self, operation: str) -> None:
        if operation == "xWrite":
            time.sleep(0.0004)
        super().meet(operation)


async def test_a_long_row_of_writes_that_gets_on_is_no_disk_that_hangs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    disk, seen = SlowDisk("slow"), Seen()
    ways = replace(HASTY, vfs="slow", stuck_seconds=0.3, tend_seconds=60)
    tier = open_tier(tmp_path, seen, clock=time.time, ways=ways)

    tier.put_many(entries_of(range(1280)), SPACE)
    flushing = asyncio.create_task(tier.flush())
    while not flushing.done():
        tier.put_many(ENTRIES[:1], SPACE)
        await asyncio.sleep(0.05)
    await tier.flush()
    entries = (await tier.state()).entries

    assert entries == 1280
    assert told(capfd) == []
    assert seen.all["failed write"] == 0
    await tier.close()
    disk.unregister()


@pytest.mark.parametrize("label", [None, SPACE.label])
async def test_a_clearing_that_comes_to_nothing_says_so(tmp_path: Path, label: str | None) -> None:
    tier = open_tier(tmp_path, ways=replace(HASTY, lock_seconds=0.02, tend_seconds=60))
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    stopped = os.open(tmp_path / f"{NAME}.lock", os.O_RDWR)
    fcntl.flock(stopped, fcntl.LOCK_EX)

    gone = await tier.clear(label)

    assert gone == 0
    assert "lock" in (await tier.state()).trouble
    os.close(stopped)
    await tier.close()


async def test_a_write_that_hangs_is_told_of_and_neither_a_clearing_nor_more_writes_wait_for_it(
    tmp_path: Path, disk: FailingDisk, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = Seen()
    ways = replace(HASTY, vfs="hanging", stuck_seconds=0.1, tend_seconds=60, closing_seconds=0.1)
    tier = open_tier(tmp_path, seen, clock=time.time, ways=ways)
    tier.put_many(ENTRIES, SPACE)
    await tier.flush()
    disk.hold = ("xWrite", threading.Event())

    tier.put_many([entry_of("hangs")], SPACE)
    async with asyncio.timeout(5):
        gone = await tier.clear()
        await tier.flush()
    tier.put_many([entry_of("left out")], SPACE)
    trouble = (await tier.state()).trouble

    assert gone == 0
    assert trouble
    assert seen.all["failed write"] >= 2
    assert told(capfd) == ["disk_cache_writes_paused"]
    await tier.close()
