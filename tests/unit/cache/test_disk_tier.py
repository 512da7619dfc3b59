"""The disk tier as every tier is used: what was put is found, by later processes too, and by nobody else."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
import threading
from pathlib import Path

from gateway.cache.disk import DiskWays
from gateway.cache.entry import unpack
from tests.support.cache_disk import OTHER, SPACE, Seen, entries_of, entry_of, open_tier, until


async def test_what_was_put_is_found_to_the_bit_and_counted(tmp_path: Path) -> None:
    seen = Seen()
    tier = open_tier(tmp_path / "cache", seen)
    entries = [entry_of("small", 1), entry_of("usual", 1536), entry_of("large", 60_000)]

    tier.put_many(entries, SPACE)
    await tier.flush()
    found = await tier.get_many([*(entry.key for entry in entries), b"?" * 32, entries[0].key])

    assert found == {entry.key: entry for entry in entries}
    assert (seen.all["hits"], seen.all["misses"]) == (3, 1)
    await tier.close()


async def test_a_request_of_any_size_finds_all_its_keys(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    entries = entries_of(range(1100), 1)
    tier.put_many(entries, SPACE)
    await tier.flush()

    found = [len(await tier.get_many([entry.key for entry in entries[:size]])) for size in (1, 2, 63, 65, 511, 1100)]

    assert found == [1, 2, 63, 65, 511, 1100]
    await tier.close()


async def test_a_later_tier_finds_what_an_earlier_one_wrote_when_it_closed(tmp_path: Path) -> None:
    earlier = open_tier(tmp_path, ways=DiskWays(gather_seconds=60))
    entries = entries_of(range(50))
    earlier.put_many(entries, SPACE)
    await earlier.close()

    later = open_tier(tmp_path)

    assert len(await later.get_many([entry.key for entry in entries])) == 50
    await later.close()


async def test_a_newer_entry_takes_the_place_of_an_older_one_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    older, newer = entry_of("same", 4), entry_of("same", 8)

    for entry in (older, newer):
        tier.put_many([entry], SPACE)
        await tier.flush()

    assert await tier.get_many([newer.key]) == {newer.key: newer}
    assert [entries for _, entries, _ in await tier.labels()] == [1]
    await tier.close()


async def test_the_directory_and_the_file_are_their_owners_alone(tmp_path: Path) -> None:
    loose = tmp_path / "cache"
    loose.mkdir(mode=0o755)
    tier = open_tier(loose)

    tier.put_many([entry_of("one")], SPACE)
    await tier.flush()

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (loose, *loose.iterdir())}
    assert modes.pop("cache") == 0o700
    assert set(modes.values()) == {0o600}
    await tier.close()


async def test_nothing_is_made_or_started_before_the_tier_is_used(tmp_path: Path) -> None:
    threads = threading.active_count()

    tier = open_tier(tmp_path / "cache")

    assert threading.active_count() == threads
    assert ((await tier.state()).entries, await tier.generation(), await tier.labels()) == (0, 0, [])
    assert not (tmp_path / "cache").exists()
    await tier.close()


def test_sqlite_is_not_imported_with_the_tier() -> None:
    asked = "import gateway.cache.disk, sys; print('apsw' in sys.modules)"

    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert told.stdout == "False\n"


async def test_clearing_one_label_leaves_the_others(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    small, large = entries_of(range(300)), entries_of(range(30), space=OTHER)
    tier.put_many(small, SPACE)
    tier.put_many(large, OTHER)
    await tier.flush()

    gone = await tier.clear("openai/small")

    assert gone == 300
    assert await tier.get_many([entry.key for entry in small]) == {}
    assert len(await tier.get_many([entry.key for entry in large])) == 30
    assert [(label, entries) for label, entries, _ in await tier.labels()] == [("openai/large", 30)]
    await tier.close()


async def test_clearing_everything_gives_the_space_back_at_once(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    tier.put_many(entries_of(range(300), 1024), SPACE)
    await tier.flush()
    before = (await tier.state()).size or 0

    gone = await tier.clear()

    after = await tier.state()
    assert gone == 300
    assert after.entries == 0
    assert (after.size or 0) < before / 10
    await tier.close()


async def test_what_was_put_before_a_clearing_does_not_come_after_it(tmp_path: Path) -> None:
    tier = open_tier(tmp_path, ways=DiskWays(gather_seconds=0.01))
    entry = entry_of("one")

    tier.put_many([entry], SPACE)
    await tier.clear()
    await tier.flush()

    assert await tier.get_many([entry.key]) == {}
    await tier.close()


async def test_labels_tell_entries_and_bytes_and_state_their_sum(tmp_path: Path) -> None:
    tier = open_tier(tmp_path, max_mb=3)
    tier.put_many(entries_of(range(10), 100), SPACE)
    tier.put_many(entries_of(range(5), 100, OTHER), OTHER)
    await tier.flush()

    labels, state = await tier.labels(), await tier.state()

    one = (labels[0][2]) // 5
    assert labels == [("openai/large", 5, 5 * one), ("openai/small", 10, 10 * one)]
    assert (state.entries, state.most, state.trouble) == (15, 3 << 20, "")
    assert state.size == (tmp_path / "embeddings.sqlite").stat().st_size
    await tier.close()


async def test_all_live_entries_are_streamed_with_their_labels_while_others_are_written(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    small, large = entries_of(range(40)), entries_of(range(20), space=OTHER)
    tier.put_many(small, SPACE)
    tier.put_many(large, OTHER)
    await tier.flush()

    streamed: list[tuple[str, bytes]] = []
    async for label, packed in tier.iterate(7):
        if not streamed:
            tier.put_many(entries_of(["later"]), SPACE)
            await tier.flush()
        streamed.append((label, packed))

    expected = {entry.key: ("openai/small", entry) for entry in [*small, *entries_of(["later"])]}
    expected |= {entry.key: ("openai/large", entry) for entry in large}
    assert len(streamed) == 61
    assert {packed[8:40]: (label, unpack(packed, packed[8:40])) for label, packed in streamed} == expected
    await tier.close()


async def test_a_request_given_up_leaves_nothing_broken(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    entries = entries_of(range(200), 512)
    tier.put_many(entries, SPACE)
    await tier.flush()
    keys = [entry.key for entry in entries]

    for turns in range(30):
        asked = asyncio.ensure_future(tier.get_many(keys))
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])

    assert len(await tier.get_many(keys)) == 200
    await tier.close()


async def test_what_there_is_no_room_for_in_the_queue_is_left_out_and_counted(tmp_path: Path) -> None:
    seen = Seen()
    tier = open_tier(tmp_path, seen, ways=DiskWays(most_waiting=10_000, gather_seconds=0.05))
    entries = entries_of(range(100), 64)

    tier.put_many(entries, SPACE)
    await tier.flush()

    found = await tier.get_many([entry.key for entry in entries])
    assert 20 < len(found) < 40
    assert seen.all["failed write"] == 1
    await tier.close()


async def test_a_closed_tier_finds_nothing_takes_nothing_and_keeps_no_thread(tmp_path: Path) -> None:
    seen = Seen()
    tier = open_tier(tmp_path, seen)
    entry = entry_of("one")
    tier.put_many([entry], SPACE)
    await tier.get_many([entry.key])

    await tier.close()
    tier.put_many([entry], SPACE)

    assert (await tier.get_many([entry.key]), await tier.clear()) == ({}, 0)
    assert (await tier.state()).entries is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cache-disk")]


async def test_all_processes_see_that_one_of_them_cleared(tmp_path: Path) -> None:
    one, other = open_tier(tmp_path), open_tier(tmp_path)
    kept = entry_of("kept", space=OTHER)
    one.put_many([entry_of("one")], SPACE)
    one.put_many([kept], OTHER)
    await one.flush()
    seen = [await other.generation()]

    await one.clear("openai/small")
    seen.append(await other.generation())
    found = await other.get_many([kept.key])
    await one.clear()
    seen.append(await other.generation())

    assert len(found) == 1
    assert len(set(seen)) == 3
    assert await one.generation() == seen[-1]
    assert await other.get_many([kept.key]) == {}
    await one.close()
    await other.close()


async def test_counts_are_told_on_the_event_loop(tmp_path: Path) -> None:
    threads: set[threading.Thread] = set()

    class Told(Seen):
        def evicted(self, *_: object) -> None:
            threads.add(threading.current_thread())

    tier = open_tier(tmp_path, Told(), max_mb=1)

    tier.put_many(entries_of(range(400), 1024), SPACE)
    await tier.flush()
    await until(lambda: threads)

    assert threads == {threading.current_thread()}
    await tier.close()
