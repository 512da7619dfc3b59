"""Rows F90, F92 and F99, and many processes at once: what the disk tier does when the world is against it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from gateway.cache.disk import DiskWays
from tests.support.cache_disk import SPACE, Clock, Seen, entries_of, open_tier

KILLS_VARIABLE = "GATEWAY_CACHE_KILLS"  # how often a process is killed at its writing; 1000 by hand
BUSY_SECONDS = 20


async def _play(*arguments: object) -> tuple[dict[str, Any], str]:
    """Return what a process of its own told in the end, and its log."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.cache_disk",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, log = await process.communicate()
    assert process.returncode == 0, log.decode()
    told: dict[str, Any] = json.loads(out)
    return told, log.decode()


async def test_a_process_killed_at_its_writing_leaves_every_entry_whole_or_absent(tmp_path: Path) -> None:
    times = int(os.environ.get(KILLS_VARIABLE, "25"))

    told, _ = await _play("kill", tmp_path / "cache", times)

    assert told.pop("rounds") > times
    assert told == {"kills": times, "damaged": 0, "wrong": 0, "lost": 0, "failed": 0}
    assert not list((tmp_path / "cache").glob("*.corrupt-*"))


async def test_a_full_disk_is_served_from_and_not_written_to_until_it_has_room(tmp_path: Path) -> None:
    told, log = await _play("full", tmp_path / "cache")

    assert told["failed"] >= 19
    assert told["trouble"]
    assert (told["served"], told["late"], told["trouble after"], told["damaged"]) == (20, 1, "", 0)
    assert (log.count('"warning"'), log.count("disk_cache_writes_resumed")) == (1, 1)


async def test_a_directory_that_may_only_be_read_is_read() -> None:
    with tempfile.TemporaryDirectory() as place:  # where any user may look
        Path(place).chmod(0o755)

        told, log = await _play("read-only", place)

        for path in Path(place).iterdir():
            path.chmod(0o755)
    assert told["filled"] == {"served": 20, "failed": 3, "damaged": 0}
    assert told["empty"]["served"] == told["empty"]["damaged"] == 0
    assert told["empty"]["failed"] >= 3
    assert log.count('"warning"') == 2  # one for each directory


async def test_processes_that_write_read_and_clear_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    told = await asyncio.gather(*(_play("busy", tmp_path / "cache", place) for place in range(3)))

    for counts, log in told:
        assert counts == {"wrong": 0, "missing": 0, "failed": 0, "damaged": 0}, log
        assert log == ""


async def test_threads_of_many_tiers_in_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    seen = Seen()
    tiers = [
        open_tier(tmp_path, seen, clock=Clock(), ways=DiskWays(gather_seconds=0, read_seconds=BUSY_SECONDS), max_mb=64)
        for _ in range(4)
    ]
    entries = entries_of(range(400), 256)

    async def use(place: int) -> int:
        mine = entries[place * 100 : place * 100 + 100]
        for start in range(0, 100, 10):
            tiers[place].put_many(mine[start : start + 10], SPACE)
            await tiers[place].flush()
            await tiers[place].get_many([entry.key for entry in entries])
        return len(await tiers[place].get_many([entry.key for entry in mine]))

    assert await asyncio.gather(*map(use, range(4))) == [100] * 4
    assert seen.all["failed read"] == seen.all["failed write"] == 0
    for tier in tiers:
        await tier.close()
