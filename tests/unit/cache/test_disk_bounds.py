"""The disk tier's bounds: bytes, oldest first; time, with jitter; and what an entry says of itself."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway.cache import make_space
from tests.support.cache_disk import (
    HASTY,
    NOW,
    OTHER,
    SPACE,
    Clock,
    FailingDisk,
    Seen,
    entries_of,
    entry_of,
    open_tier,
    until,
)


@pytest.mark.parametrize(("numbers", "most"), [(30, 1), (400, 1), (1536, 1), (1536, 3), (20_000, 3)])
async def test_the_file_never_grows_over_its_bound_and_the_oldest_go_first(
    tmp_path: Path, numbers: int, most: int
) -> None:
    seen = Seen()
    tier = open_tier(tmp_path, seen, max_mb=most)
    file = tmp_path / "embeddings.sqlite"
    total = 3 * most * (1 << 20) // (numbers * 4 + 80)
    sizes = []

    for start in range(0, total, 100):
        tier.put_many(entries_of(range(start, min(start + 100, total)), numbers), SPACE)
        await tier.flush()
        sizes.append(file.stat().st_size)

    ((_, kept, size),) = await tier.labels()
    newest = entries_of(range(total - kept, total), numbers)
    assert max(sizes) <= most << 20
    assert size > 0.25 * (most << 20)
    assert len(await tier.get_many([entry.key for entry in newest])) == kept
    assert seen.all["size"] == total - kept
    await tier.close()


class Measuring(FailingDisk):
    """Knows the most bytes that the files in a directory ever took together."""

    def __init__(self, directory: Path) -> None:
        super().__init__("measuring")
        self.directory = directory
        self.most = 0

    def meet(self, operation: str) -> None:
        super().meet(operation)
        if operation == "xWrite":
            self.most = max(self.most, sum(path.stat().st_size for path in self.directory.iterdir()))


@pytest.mark.parametrize(("numbers", "most"), [(1, 1), (30, 1), (384, 2), (384, 9)])
async def test_the_file_and_its_journal_together_stay_within_the_bound(tmp_path: Path, numbers: int, most: int) -> None:
    disk = Measuring(tmp_path)
    tier = open_tier(tmp_path, max_mb=most, ways=replace(HASTY, vfs="measuring"))
    total = 5 * most * (1 << 20) // (numbers * 16 + 800)

    for start in range(0, total, 700):
        tier.put_many(entries_of(range(start, min(start + 700, total)), numbers), SPACE)
        await tier.flush()
    entries = (await tier.state()).entries
    await tier.clear(SPACE.label)
    await tier.close()
    disk.unregister()

    assert entries is not None
    assert 0 < entries < total
    assert 0.75 * (most << 20) < disk.most <= most << 20


async def test_an_entry_that_would_leave_no_room_for_others_is_left_out(tmp_path: Path) -> None:
    seen = Seen()
    tier = open_tier(tmp_path, seen, max_mb=1)
    tier.put_many(entries_of(range(5)), SPACE)

    tier.put_many([entry_of("huge", 1 << 18)], SPACE)
    await tier.flush()

    assert (await tier.state()).entries == 5
    await until(lambda: seen.all["failed write"] == 1)
    await tier.close()


async def test_models_that_nothing_is_kept_of_any_more_take_no_room_for_ever(tmp_path: Path) -> None:
    seen, clock = Seen(), Clock()
    tier = open_tier(tmp_path, seen, clock=clock, max_mb=1)
    for number in range(1500):
        space = make_space(scope="", label=f"openai/{number:01000}", revision="", fields={})
        tier.put_many([entry_of("one", 1, space)], space)
    await tier.flush()
    tier.put_many(entries_of(range(50), 512), SPACE)
    await tier.flush()

    found = await tier.get_many([entry.key for entry in entries_of(range(50), 512)])

    assert len(found) == 50
    assert seen.all["damaged file"] == 0
    await tier.close()


async def test_a_file_far_over_its_bound_leaves_others_their_turn_while_it_is_made_smaller(tmp_path: Path) -> None:
    before = open_tier(tmp_path, max_mb=16)
    for start in range(0, 10_000, 1000):
        before.put_many(entries_of(range(start, start + 1000), 200), SPACE)
        await before.flush()
    await before.close()
    seen = Seen()
    small = open_tier(tmp_path, max_mb=1)
    other = open_tier(tmp_path, seen, max_mb=16, ways=replace(HASTY, lock_seconds=0.1, tend_seconds=60))

    small.put_many([entry_of("new", 200)], SPACE)
    kept = []
    for number in range(10):
        other.put_many([entry_of(f"other {number}", 200)], SPACE)
        await other.flush()
        kept.append(len(await other.get_many([entry_of(f"other {number}", 200).key])))
    await small.flush()

    assert kept == [1] * 10
    assert seen.all["failed write"] == 0
    assert len(await small.get_many([entry_of("new", 200).key])) == 1
    await small.close()
    await other.close()


async def test_a_file_over_a_bound_that_was_lowered_is_made_smaller_without_being_asked(tmp_path: Path) -> None:
    before = open_tier(tmp_path, max_mb=4)
    before.put_many(entries_of(range(500), 1536), SPACE)
    await before.close()
    file = tmp_path / "embeddings.sqlite"
    assert file.stat().st_size > 3 << 20

    after = open_tier(tmp_path, max_mb=1)
    await after.get_many([entry_of("0").key])
    await until(lambda: file.stat().st_size <= 1 << 20)

    assert await after.get_many([entry_of("499", 1536).key])
    await after.close()


async def test_what_is_over_its_time_is_a_miss_and_then_gone(tmp_path: Path) -> None:
    seen, clock = Seen(), Clock()
    tier = open_tier(tmp_path, seen, clock=clock, ttl_seconds=100)
    entries = entries_of(range(200))
    keys = [entry.key for entry in entries]
    tier.put_many(entries, SPACE)
    await tier.flush()

    clock.now = NOW + 99
    early = await tier.get_many(keys)
    clock.now = NOW + 100
    late = await tier.get_many(keys)

    assert (len(early), late) == (200, {})
    await until(lambda: seen.all["expired"] == 200)
    assert (await tier.state()).entries == 0
    await tier.close()


async def test_the_times_of_entries_differ_by_a_tenth_so_that_they_are_not_over_together(tmp_path: Path) -> None:
    clock = Clock()
    tier = open_tier(tmp_path, clock=clock, dice=random.Random(1).random, ttl_seconds=1000)
    entries = entries_of(range(400))
    keys = [entry.key for entry in entries]
    tier.put_many(entries, SPACE)
    await tier.flush()

    left = []
    for seconds in (899, 1000, 1100):
        clock.now = NOW + seconds
        left.append(len(await tier.get_many(keys)))

    assert left[0] == 400
    assert 150 < left[1] < 250
    assert left[2] == 0
    await tier.close()


async def test_an_entry_is_not_kept_longer_than_it_says(tmp_path: Path) -> None:
    clock = Clock()
    tier = open_tier(tmp_path, clock=clock, ttl_seconds=100)
    short = entry_of("short", until=int(NOW) + 10)
    far = entry_of("far", until=int(NOW) + 10**6)
    over = entry_of("over", until=int(NOW) - 1)
    tier.put_many([short, far, over], SPACE)
    await tier.flush()

    at_once = await tier.get_many([short.key, far.key, over.key])
    clock.now = NOW + 10
    later = await tier.get_many([short.key, far.key, over.key])

    assert set(at_once) == {short.key, far.key}
    assert set(later) == {far.key}
    await tier.close()


async def test_an_entry_s_own_time_holds_where_that_of_its_row_is_wrong(tmp_path: Path) -> None:
    clock = Clock()
    tier = open_tier(tmp_path, clock=clock, ttl_seconds=100)
    short = entry_of("short", until=int(NOW) + 10)
    tier.put_many([short], SPACE)
    await tier.flush()
    connection = apsw.Connection(str(tmp_path / "embeddings.sqlite"))
    connection.execute("UPDATE entries SET until = until + 50")
    connection.close()

    clock.now = NOW + 10

    assert await tier.get_many([short.key]) == {}
    await tier.close()


async def test_a_time_that_was_made_shorter_holds_for_what_was_kept_before(tmp_path: Path) -> None:
    before = open_tier(tmp_path, ttl_seconds=1_000_000)
    entry = entry_of("one")
    before.put_many([entry], SPACE)
    await before.close()

    after = open_tier(tmp_path, ttl_seconds=100)

    assert await after.get_many([entry.key]) == {}
    await after.close()


async def test_eviction_takes_from_all_labels_by_age(tmp_path: Path) -> None:
    tier = open_tier(tmp_path, max_mb=1)
    tier.put_many(entries_of(range(60), 1536, OTHER), OTHER)
    await tier.flush()

    tier.put_many(entries_of(range(120), 1536), SPACE)
    await tier.flush()

    assert [label for label, _, _ in await tier.labels()] == ["openai/small"]
    await tier.close()
