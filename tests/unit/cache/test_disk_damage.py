"""A damaged file: whatever is wrong with it, no wrong vector, no exception, and a store that works again."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import apsw
import pytest

from gateway.cache.entry import pack, unpack
from tests.support.cache_disk import SPACE, Seen, entries_of, entry_of, open_tier

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


def _flip(path: Path, places: list[int], dice: random.Random) -> None:
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            old = file.read(1)[0]
            file.seek(place)
            file.write(bytes([old ^ (1 << dice.randrange(8))]))


def test_no_single_byte_of_an_entry_can_be_wrong() -> None:
    dice = random.Random(6)
    entry = entry_of("one", 600)
    packed = pack(entry)

    for _ in range(10_000):
        wrong = bytearray(packed)
        wrong[dice.randrange(len(wrong))] ^= dice.randrange(1, 256)

        assert unpack(bytes(wrong), entry.key) is None


async def test_every_byte_of_the_header_may_be_wrong(tmp_path: Path, whole: Path) -> None:
    dice = random.Random(1)
    left = []

    for place in range(100):
        directory = tmp_path / str(place)
        directory.mkdir()
        shutil.copy(whole, directory / NAME)
        _flip(directory / NAME, [place], dice)
        seen = Seen()
        left.append(await _use(directory, seen))
        assert seen.all["failed write"] == 0

    assert left.count(60) > 20
    assert left.count(0) > 10


async def test_bytes_anywhere_in_the_file_may_be_wrong(tmp_path: Path, whole: Path) -> None:
    dice = random.Random(2)
    size = whole.stat().st_size

    for turn in range(200):
        directory = tmp_path / str(turn)
        directory.mkdir()
        shutil.copy(whole, directory / NAME)
        _flip(directory / NAME, [dice.randrange(size) for _ in range(dice.choice((1, 1, 3, 30, 300)))], dice)
        await _use(directory, Seen())


async def test_bytes_of_pages_may_go_wrong_while_the_file_is_open(tmp_path: Path, whole: Path) -> None:
    dice = random.Random(3)
    size = whole.stat().st_size

    for turn in range(40):
        directory = tmp_path / str(turn)
        directory.mkdir()
        shutil.copy(whole, directory / NAME)
        file = os.open(directory / NAME, os.O_RDWR)
        tier = open_tier(directory)
        await tier.get_many(KEYS[:3])

        for _ in range(5):
            os.pwrite(file, dice.randbytes(dice.choice((1, 16, 4096))), dice.randrange(size))
            found = await tier.get_many(KEYS)
            assert all(entry == BY_KEY[key] for key, entry in found.items())
            tier.put_many([LATE], SPACE)
            await tier.flush()

        await tier.close()
        os.close(file)


@pytest.mark.parametrize("packed", ["zeroblob(length(packed))", "CAST(x'ff41' AS TEXT)", "7", "1e300", "packed || 0"])
async def test_a_damaged_entry_is_a_miss_is_counted_once_and_is_written_anew(whole: Path, packed: str) -> None:
    seen = Seen()
    with apsw.Connection(str(whole)) as connection:
        connection.execute(f"UPDATE entries SET packed = {packed} WHERE id = 7")
    connection.close()
    tier = open_tier(whole.parent, seen)

    found = [len(await tier.get_many(KEYS))]
    await tier.flush()
    found.append(len(await tier.get_many(KEYS)))
    tier.put_many(ENTRIES[6:7], SPACE)
    await tier.flush()
    found.append(len(await tier.get_many(KEYS)))

    assert found == [59, 59, 60]
    assert (seen.all["damaged entry"], seen.all["damaged file"]) == (1, 0)
    await tier.close()
