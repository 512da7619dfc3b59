"""A Redis tier for tests: entries to put into it, who counts for it, and where it looks."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from gateway.cache import Entry, RedisTierSettings, Space, TierName, make_space
from gateway.cache.redis import RedisTier

Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Logged:
    """Return what gives the log's events since it was last asked."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def names(lines: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in lines]


class Counted:
    """Counts, by word: `hits`, `misses`, `read`, `write`, `entry`, `protocol`, `up`, `down`."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.up: list[bool] = []

    def looked_up(self, tier: TierName, hits: int, misses: int) -> None:
        assert tier == "redis"
        self.seen.update(hits=hits, misses=misses)

    def evicted(self, tier: TierName, entries: int, reason: Literal["size", "expired"]) -> None:
        raise AssertionError("Redis evicts by itself")

    def failed(self, tier: TierName, operation: Literal["read", "write"]) -> None:
        assert tier == "redis"
        self.seen[operation] += 1

    def damaged(self, tier: TierName, what: Literal["entry", "file", "protocol"]) -> None:
        assert tier == "redis"
        self.seen[what] += 1

    def is_up(self, tier: TierName, *, up: bool) -> None:
        assert tier == "redis"
        self.up.append(up)


def space_of(label: str = "openai/small") -> Space:
    return make_space(scope="", label=label, revision="1", fields={})


def entry_of(text: str, *, label: str = "openai/small", until: int = 0, numbers: int = 8) -> Entry:
    """Return an entry whose vector is made of its text, so that no other's can be taken for it."""
    space = space_of(label)
    digest = hashlib.sha256(text.encode()).digest()
    vector = (digest * (numbers * 4 // len(digest) + 1))[: numbers * 4]
    return Entry(space.key(text), space.id, vector, tokens=1, created=1, until=until)


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as that holds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


async def stored(tier: RedisTier, entries: Sequence[Entry], label: str = "openai/small") -> None:
    """Put entries, and return when they can be had."""
    tier.put_many(entries, space_of(label))
    keys = [entry.key for entry in entries]
    async with asyncio.timeout(10):
        while len(await tier.get_many(keys)) < len(set(keys)):
            await asyncio.sleep(0.005)


async def asked_until_down(tier: RedisTier, counted: Counted, key: bytes) -> None:
    """Ask until nobody would wait any more."""
    async with asyncio.timeout(10):
        while not counted.up or counted.up[-1]:
            await tier.get_many([key])
            await asyncio.sleep(0)


async def reads_again(tier: RedisTier, entry: Entry) -> None:
    """Return when the entry is found again; it is at most five seconds and what a busy machine adds."""
    async with asyncio.timeout(10):
        while await tier.get_many([entry.key]) != {entry.key: entry}:
            tier.put_many([entry], space_of())
            await asyncio.sleep(0.01)


@asynccontextmanager
async def redis_tier(
    url: str, *, timeout_ms: int = 1000, ttl: int = 60, **arguments: Any
) -> AsyncIterator[tuple[RedisTier, Counted]]:
    """Open a tier at that URL, with time enough for a busy machine, and close it afterwards."""
    counted = Counted()
    tier = RedisTier(url, RedisTierSettings(ttl_seconds=ttl), timeout_ms / 1000, counted, **arguments)
    try:
        yield tier, counted
    finally:
        await tier.close()
