"""A file that is of no use, or gone, or another: it is set aside, an empty one takes its place, and all notice."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway.cache.disk_file import DiskFile
from tests.support.cache_disk import HASTY, NOW, SPACE, Clock, Seen, entries_of, entry_of, open_tier, until

NAME = "embeddings.sqlite"
ENTRIES = entries_of(range(60))
KEYS = [entry.key for entry in ENTRIES]
BY_KEY = {entry.key: entry for entry in ENTRIES}
LATE = entry_of("late")


@pytest.fixture
async def whole(tmp_path: Path) -> Path:
    """Return a file with all ENTRIES."""
    tier = open_tier(tmp_path / "whole")
    tier.put_many(ENTRIES, SPACE)
    await tier.close()
    return tmp_path / "whole" / NAME


async def _use(directory: Path, seen: Seen) -> int:
    """Use a damaged file, check that nothing wrong comes from it, and return how many entries were left."""
    tier = open_tier(directory, seen)
    found = await tier.get_many(KEYS)
    tier.put_many([LATE], SPACE)
    await tier.flush()
    again = await tier.get_many([*KEYS, LATE.key])
    await tier.generation()
    await tier.state()
    await tier.close()
    assert all(entry == BY_KEY[key] for key, entry in found.items())
    assert all(entry == BY_KEY.get(key, LATE) for key, entry in again.items())
    return len(found)


def _newer(path: Path) -> None:
    with apsw.Connection(str(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def _anothers(path: Path) -> None:
    path.unlink()
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE TABLE about (generation INTEGER); INSERT INTO about VALUES (1)")
        connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT); PRAGMA user_version = 1")
    connection.close()


def _without_a_table(path: Path) -> None:
    with apsw.Connection(str(path)) as connection:
        connection.execute("DROP TABLE entries")
    connection.close()


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "zero-length": lambda path: _cut(path, 0),
    "one byte": lambda path: _cut(path, 1),
    "half a header": lambda path: _cut(path, 50),
    "half a page": lambda path: _cut(path, 2048),
    "one page": lambda path: _cut(path, 4096),
    "half of it": lambda path: _cut(path, path.stat().st_size // 2),
    "no database": lambda path: path.write_bytes(b"not a database\n" * 1000),
    "all zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "all noise": lambda path: path.write_bytes(random.Random(4).randbytes(path.stat().st_size)),
    "of a newer version": _newer,
    "somebody else's": _anothers,
    "without a table": _without_a_table,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_file_that_is_of_no_use_is_set_aside_and_made_anew(
    whole: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = Seen()
    DAMAGES[damage](whole)

    await _use(whole.parent, seen)

    aside = [path.name for path in whole.parent.glob("*.corrupt-*")]
    assert aside == [f"{NAME}.corrupt-{int(NOW)}"]
    assert seen.all["damaged file"] == 1
    assert seen.all["failed write"] == seen.all["failed read"] == 0
    assert capfd.readouterr().err.count("disk_cache_set_aside") == 1
    after = open_tier(whole.parent)
    assert await after.get_many([LATE.key]) == {LATE.key: LATE}
    await after.close()


async def test_a_file_that_was_made_to_map_another_is_not_used(whole: Path) -> None:
    seen = Seen()
    elsewhere = apsw.Connection(str(whole))
    elsewhere.pragma("journal_mode", "wal")
    elsewhere.execute("SELECT * FROM about").fetchall()

    await _use(whole.parent, seen)
    maps = Path("/proc/self/maps").read_text()
    elsewhere.close()

    assert maps.count("-shm") <= 1  # the test's own
    after = open_tier(whole.parent)
    assert await after.get_many([LATE.key]) == {LATE.key: LATE}
    await after.close()


async def test_two_of_the_files_that_were_set_aside_are_kept(tmp_path: Path) -> None:
    for turn in range(4):
        (tmp_path / NAME).write_text(f"no database {turn}")
        await _use(tmp_path, Seen())

    aside = sorted(tmp_path.glob("*.corrupt-*"))
    assert [path.read_text() for path in aside] == ["no database 2", "no database 3"]


async def test_two_that_find_the_same_damage_set_the_file_aside_once(whole: Path) -> None:
    seen = Seen()
    tiers = [open_tier(whole.parent, seen) for _ in range(3)]
    for tier in tiers:
        await tier.get_many(KEYS)
    _cut(whole, 4096)

    for _ in range(3):
        for tier in tiers:
            await tier.get_many(KEYS)
    tiers[0].put_many([LATE], SPACE)
    await tiers[0].flush()

    assert [len(await tier.get_many([LATE.key])) for tier in tiers] == [1, 1, 1]
    assert seen.all["damaged file"] == 1
    for tier in tiers:
        await tier.close()


def test_a_file_that_took_the_place_of_a_damaged_one_is_left_alone(tmp_path: Path) -> None:
    told: list[str] = []
    file = DiskFile(tmp_path, lambda name, _: told.append(name), Clock(), lock_seconds=1, vfs="")
    file.build(None, 0)
    damaged = file.identity()
    assert damaged is not None

    file.set_aside(damaged, "the first to see it")
    file.build(None, 0)
    file.set_aside(damaged, "the second")
    file.build(damaged, 5)

    assert told == [f"{NAME}.corrupt-{int(NOW)}"]
    assert file.open(1).connection.execute("SELECT generation FROM about").fetchall() == [(0,)]


async def test_others_forget_what_they_remember_when_a_file_was_set_aside(whole: Path) -> None:
    tier = open_tier(whole.parent)
    before = await tier.generation()
    _cut(whole, 100)

    assert await tier.generation() != before
    await tier.close()


async def test_a_journal_of_a_file_that_is_gone_is_not_played_into_the_new_one(tmp_path: Path, whole: Path) -> None:
    seen = Seen()
    journal = whole.with_name(f"{NAME}-journal")
    connection = apsw.Connection(str(whole))
    connection.pragma("cache_size", 2)  # so that it spills, and the journal is needed
    connection.execute("BEGIN; UPDATE entries SET until = until + 1, packed = zeroblob(900)")
    kept = journal.read_bytes()
    connection.close()
    assert len(kept) > 4096
    whole.unlink()
    journal.write_bytes(kept)

    await _use(whole.parent, seen)

    after = open_tier(whole.parent, seen)
    assert await after.get_many([*KEYS, LATE.key]) == {LATE.key: LATE}
    assert len([packed async for _, packed in after.iterate()]) == 1
    assert seen.all["damaged file"] == 0
    await after.close()


async def test_a_writer_that_waited_for_the_lock_writes_to_the_file_that_is_there_by_then(
    tmp_path: Path, whole: Path
) -> None:
    lock = whole.with_name(f"{NAME}.lock")
    tier = open_tier(whole.parent, ways=replace(HASTY, tend_seconds=60))
    await tier.get_many(KEYS)
    await tier.flush()
    held = os.open(lock, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)

    tier.put_many([LATE], SPACE)
    await until(lambda: sum(os.path.realpath(f"/proc/self/fd/{fd}") == str(lock) for fd in range(100)) == 2)
    shutil.copy(whole, tmp_path / "another")
    (tmp_path / "another").rename(whole)
    os.close(held)
    await tier.flush()

    assert len(await tier.get_many([*KEYS, LATE.key])) == 61
    await tier.close()


async def test_a_file_that_somebody_removed_is_made_anew(whole: Path) -> None:
    seen = Seen()
    tier = open_tier(whole.parent, seen)
    await tier.get_many(KEYS)

    shutil.rmtree(whole.parent)
    nothing = await tier.get_many(KEYS)
    tier.put_many([LATE], SPACE)
    await tier.flush()

    assert nothing == {}
    assert await tier.get_many([LATE.key])
    await until(lambda: seen.all["failed write"] == 0)
    await tier.close()
