"""Row F83, as far as it is about remembered embeddings: a Redis that is slow, or seems so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.cache import pack
from gateway.cache.redis import KEYS_AT_ONCE
from tests.support.redis_server import RedisServer, redis_server
from tests.support.redis_tier import Logged, asked_until_down, entry_of, logged, reads_again, redis_tier, stored
from tests.support.sockets import serving, stall

__all__ = ["logged"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as running:
        yield running


def delayed(port: int, seconds: float) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """Return a proxy to that port, which holds every reply back for so long."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", port)
        try:
            while asked := await reader.read(65_536):
                to_there.write(asked)
                reply = await there.read(65_536)
                await asyncio.sleep(seconds)
                writer.write(reply)
        finally:
            to_there.close()
            with suppress(ConnectionError):
                await to_there.wait_closed()

    return act


async def test_f83_a_slow_redis_is_left_alone_after_three_calls(server: RedisServer, logged: Logged) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (direct, _):
        await stored(direct, [entry])
    async with (
        serving(delayed(server.port, 0.2)) as port,
        redis_tier(f"redis://127.0.0.1:{port}", timeout_ms=50) as (tier, counted),
    ):
        await asked_until_down(tier, counted, entry.key)

        assert (counted.up, counted.seen["hits"]) == ([False], 0)
        waited = counted.seen["read"]
        assert [await tier.get_many([entry.key]) for _ in range(20)] == [{}] * 20
        assert counted.seen["read"] == waited
        assert [line.get("reason") for line in logged()] == ["timeout"]


async def test_f83_what_came_in_time_is_kept() -> None:
    entries = [entry_of(f"text {number}") for number in range(KEYS_AT_ONCE + 10)]
    first = [pack(entry) for entry in entries[:KEYS_AT_ONCE]]

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"*%d\r\n" % len(first) + b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for value in first))
        await stall(reader, writer)

    async with serving(act) as port, redis_tier(f"redis://127.0.0.1:{port}", timeout_ms=500) as (tier, counted):
        found = await tier.get_many([entry.key for entry in entries])

        assert found == {entry.key: entry for entry in entries[:KEYS_AT_ONCE]}
        assert counted.seen == {"hits": KEYS_AT_ONCE, "misses": 10, "read": 1}


async def test_f83_a_stall_of_our_own_is_not_held_against_redis(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url, timeout_ms=50) as (tier, counted):
        await stored(tier, [entry])
        calls = [asyncio.create_task(tier.get_many([entry.key])) for _ in range(4)]
        await asyncio.sleep(0)

        time.sleep(0.2)  # the loop stands still, the answers are there
        await asyncio.gather(*calls)

        assert counted.up == [True]
        await reads_again(tier, entry)
        assert counted.up == [True]


async def test_f83_slow_within_the_cap_is_used(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (direct, _):
        await stored(direct, [entry])
    async with (
        serving(delayed(server.port, 0.03)) as port,
        redis_tier(f"redis://127.0.0.1:{port}") as (tier, counted),
    ):
        answers = [await tier.get_many([entry.key]) for _ in range(10)]

        assert answers == [{entry.key: entry}] * 10
        assert counted.up == [True]


async def test_f83_a_redis_that_sleeps_is_left_alone_and_used_again(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url, timeout_ms=50) as (tier, counted):
        await stored(tier, [entry])
        sleeping = asyncio.create_task(server.ask("DEBUG", "SLEEP", "1"))

        await asked_until_down(tier, counted, entry.key)
        await sleeping
        await reads_again(tier, entry)

        assert counted.up[-1]
