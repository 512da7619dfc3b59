"""What tests of the disk tier share: entries that can be told from wrong ones, who counts, a failing file system.

Run as a program it plays what needs a process of its own: `python -m tests.support.cache_disk kill|busy|full|read-only DIR [N]`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import resource
import select
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import apsw

from gateway.cache import DiskTierSettings, Entry, Space, TierName, make_space
from gateway.cache.disk import DiskTier, DiskWays

SPACE = make_space(scope="", label="openai/small", revision="", fields={})
OTHER = make_space(scope="", label="openai/large", revision="", fields={})
HASTY = DiskWays(gather_seconds=0.0, tend_seconds=0.01)
NOW = 1_800_000_000.0


class Seen:
    """Counts what a tier tells."""

    def __init__(self) -> None:
        self.all: Counter[str] = Counter()

    def looked_up(self, tier: TierName, hits: int, misses: int) -> None:
        self.all["hits"] += hits
        self.all["misses"] += misses

    def evicted(self, tier: TierName, entries: int, reason: Literal["size", "expired"]) -> None:
        self.all[reason] += entries

    def failed(self, tier: TierName, operation: Literal["read", "write"]) -> None:
        self.all[f"failed {operation}"] += 1

    def damaged(self, tier: TierName, what: Literal["entry", "file", "protocol"]) -> None:
        self.all[f"damaged {what}"] += 1

    def is_up(self, tier: TierName, *, up: bool) -> None:
        self.all["up" if up else "down"] += 1


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def entry_of(text: str, numbers: int = 64, space: Space = SPACE, until: int = 0) -> Entry:
    """Return the entry of this text: its numbers follow from its key, so that a wrong one is seen."""
    key = space.key(text)
    return Entry(key, space.id, vector_of(key, numbers), tokens=len(text), created=int(NOW), until=until)


def entries_of(texts: Iterable[object], numbers: int = 64, space: Space = SPACE) -> list[Entry]:
    return [entry_of(str(text), numbers, space) for text in texts]


def vector_of(key: bytes, numbers: int) -> bytes:
    return hashlib.shake_128(key).digest(numbers * 4)


def open_tier(
    directory: Path,
    seen: Seen | None = None,
    *,
    clock: Callable[[], float] | None = None,
    dice: Callable[[], float] = lambda: 0.5,
    ways: DiskWays = HASTY,
    **settings: Any,
) -> DiskTier:
    return DiskTier(directory, DiskTierSettings(**settings), seen or Seen(), clock or Clock(), dice, ways=ways)


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds, at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


class FailingDisk(apsw.VFS):
    """A way to the file system whose operations on the file or its journal fail while `failing` names them.

    `failing` holds names such as `xWrite`, `fail_at` one and from which call of it on; `error` is what they raise.
    The operation named in `hold` waits for the event.
    """

    def __init__(self, name: str) -> None:
        self.failing: set[str] = set()
        self.fail_at: tuple[str, int] | None = None
        self.hold: tuple[str, threading.Event] | None = None
        self.error: type[Exception] = apsw.IOError
        self.calls: Counter[str] = Counter()
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if isinstance(name, apsw.URIFilename):
            name = name.filename()
        self.meet("xOpenJournal" if str(name).endswith("-journal") else "xOpen")
        return _FailingFile(self, name, flags)

    def xAccess(self, pathname: str, flags: int) -> bool:
        self.meet("xAccess")
        return super().xAccess(pathname, flags)

    def meet(self, operation: str) -> None:
        self.calls[operation] += 1
        if self.hold is not None and self.hold[0] == operation:
            self.hold[1].wait(10)
        if self.fail_at is not None and self.fail_at[0] == operation and self.calls[operation] >= self.fail_at[1]:
            self.failing.add(operation)
        if operation in self.failing:
            raise self.error(f"{operation} fails")


class _FailingFile(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: str | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.meet("xRead")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.meet("xWrite")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.meet("xSync")
        super().xSync(flags)


def _play_kills(directory: Path, times: int) -> dict[str, int]:
    """Kill a process that writes, again and again; return what was found after that."""
    told: Counter[str] = Counter(kills=0, damaged=0, wrong=0, lost=0, failed=0)
    for turn in range(times):
        rounds = _kill_one(directory, turn)
        told["kills"] += 1
        told["rounds"] += rounds
        read, write = os.pipe()
        if not (pid := os.fork()):
            os.write(write, json.dumps(asyncio.run(_check(directory, turn, rounds))).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            told.update(json.loads(answer.read() or b'{"failed": 1}'))
        os.waitpid(pid, 0)
    return dict(told)


def _kill_one(directory: Path, turn: int) -> int:
    """Return how many rounds the process said that it had written."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        asyncio.run(_write_for_ever(directory, turn, write))
    os.close(write)
    wanted, rounds = random.randrange(6), 0
    while rounds < wanted:
        rounds += len(os.read(read, 1))
    select.select([], [], [], random.random() * 0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while os.read(read, 1):
        rounds += 1
    os.close(read)
    return rounds


async def _write_for_ever(directory: Path, turn: int, told: int) -> None:
    tier = open_tier(directory, max_mb=8)
    number = 0
    while True:
        tier.put_many(entries_of((f"{turn} {number} {place}" for place in range(20)), 512), SPACE)
        await tier.flush()
        os.write(told, b".")
        number += 1


async def _check(directory: Path, turn: int, rounds: int) -> dict[str, int]:
    seen = Seen()
    tier = open_tier(directory, seen, max_mb=8)
    expected = entries_of((f"{turn} {number} {place}" for number in range(rounds + 3) for place in range(20)), 512)
    found = await tier.get_many([entry.key for entry in expected])
    wrong = sum(found.get(entry.key, entry) != entry for entry in expected)
    latest = expected[max(0, rounds - 50) * 20 : rounds * 20]  # a process that was long at it has evicted its first
    lost = sum(entry.key not in found for entry in latest)
    await tier.close()
    return {"wrong": wrong, "lost": lost, "damaged": seen.all["damaged file"] + seen.all["damaged entry"]}


async def _play_full(directory: Path) -> dict[str, Any]:
    """Write until files may not grow any more, and then once more after that is over."""
    seen, clock = Seen(), Clock()
    tier = open_tier(directory, seen, clock=clock)
    kept = entries_of(range(20))
    tier.put_many(kept, SPACE)
    await tier.flush()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    for turn in range(20):
        tier.put_many(entries_of(range(turn * 100, turn * 100 + 100), 512, OTHER), OTHER)
        await tier.flush()
    await asyncio.sleep(0)
    told: dict[str, Any] = {"failed": seen.all["failed write"], "trouble": (await tier.state()).trouble}
    told["served"] = len(await tier.get_many([entry.key for entry in kept]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    clock.now += 31
    late = entries_of(["late"])
    tier.put_many(late, SPACE)
    await tier.flush()
    told["late"] = len(await tier.get_many([late[0].key]))
    told["trouble after"] = (await tier.state()).trouble
    told["damaged"] = seen.all["damaged file"] + seen.all["damaged entry"]
    await tier.close()
    return told


async def _play_read_only(directory: Path) -> dict[str, Any]:
    """Use a directory that somebody else owns, filled and empty."""
    kept = entries_of(range(20))
    filled, empty = directory / "filled", directory / "empty"
    empty.mkdir()
    tier = open_tier(filled)
    tier.put_many(kept, SPACE)
    await tier.flush()
    await tier.close()
    for path in (filled / "embeddings.sqlite", filled / "embeddings.sqlite.lock"):
        path.chmod(0o444)
    filled.chmod(0o555)
    empty.chmod(0o555)
    if os.getuid() == 0:  # to whom permissions mean nothing
        os.setuid(65534)
    told: dict[str, Any] = {}
    for place in (filled, empty):
        seen = Seen()
        tier = open_tier(place, seen)
        for turn in range(3):
            tier.put_many(entries_of([f"more {turn}"]), SPACE)
            await tier.flush()
        served = len(await tier.get_many([entry.key for entry in kept]))
        told[place.name] = {"served": served, "failed": seen.all["failed write"], "damaged": seen.all["damaged file"]}
        await tier.close()
    return told


async def _play_busy(directory: Path, place: int) -> dict[str, int]:
    """Write, read and clear what is this process's own, in a file that others do the same with."""
    told: Counter[str] = Counter(wrong=0, missing=0)
    seen = Seen()
    space = make_space(scope="", label=f"openai/{place}", revision="", fields={})
    ways = DiskWays(gather_seconds=0, tend_seconds=0.01, read_seconds=30, busy_seconds=30, lock_seconds=30)
    tier = open_tier(directory, seen, ways=ways)
    for turn in range(30):
        mine = entries_of((f"{turn} {number}" for number in range(30)), 256, space)
        tier.put_many(mine, space)
        await tier.flush()
        found = await tier.get_many([entry.key for entry in mine])
        told["missing"] += len(mine) - len(found)
        told["wrong"] += sum(found.get(entry.key, entry) != entry for entry in mine)
        if turn % 10 == 9:
            told["missing"] += 300 - await tier.clear(space.label)
    await tier.close()
    failed = seen.all["failed read"] + seen.all["failed write"]
    return {**told, "failed": failed, "damaged": seen.all["damaged entry"] + seen.all["damaged file"]}


def _main(play: str, directory: Path, number: int = 0) -> None:
    if play == "kill":
        told: dict[str, Any] = _play_kills(directory, number)
    elif play == "busy":
        told = asyncio.run(_play_busy(directory, number))
    else:
        told = asyncio.run({"full": _play_full, "read-only": _play_read_only}[play](directory))
    print(json.dumps(told))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
