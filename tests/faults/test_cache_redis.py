"""Rows F80, F81, F82 and F84, as far as they are about remembered embeddings: a Redis that is down, killed, frozen or
back again. No call fails of it, and hardly any waits."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.cache import Entry
from gateway.cache.redis import RedisTier
from tests.support.redis_server import RedisServer, free_port, redis_server
from tests.support.redis_tier import (
    Logged,
    asked_until_down,
    entry_of,
    logged,
    names,
    reads_again,
    redis_tier,
    space_of,
    stored,
    until,
)
from tests.support.sockets import serving, stall

__all__ = ["logged"]

HANDFUL = 8  # calls; twice as many as there are connections


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as running:
        yield running


async def asked_of(server: RedisServer) -> int:
    """Return how many look-ups have reached Redis."""
    statistics = await server.ask("INFO", "commandstats")
    return int(statistics.get("cmdstat_mget", {}).get("calls", 0))


async def load(tier: RedisTier, entries: list[Entry], *, callers: int, enough: asyncio.Event) -> None:
    """Ask for one entry after another, as so many callers, until it is enough. No answer is ever wrong."""

    async def call(number: int) -> None:
        dice = random.Random(number)
        while not enough.is_set():
            entry = dice.choice(entries)
            assert await tier.get_many([entry.key]) in ({}, {entry.key: entry})
            tier.put_many([entry], space_of())
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(call(number))


async def test_f80_down_at_start_costs_one_call_a_refusal_and_is_told_once(logged: Logged) -> None:
    entry = entry_of("text")
    async with redis_tier(f"redis://127.0.0.1:{free_port()}/0") as (tier, counted):
        answers = [await tier.get_many([entry.key]) for _ in range(50)]
        tier.put_many([entry], space_of())

        assert answers == [{}] * 50
        assert counted.seen == {"hits": 0, "misses": 1, "read": 1, "write": 1}
        assert counted.up == [False]
        assert [(line["event"], line["reason"]) for line in logged()] == [("redis_down", "connection refused")]
        assert (await tier.state()).trouble == "connection refused"


async def test_f80_a_redis_that_starts_later_is_used(tmp_path: Path, logged: Logged) -> None:
    entry = entry_of("text")
    async with (
        redis_server(tmp_path, started=False) as server,
        redis_tier(server.url) as (tier, counted),
    ):
        assert await tier.get_many([entry.key]) == {}
        await server.start()

        await reads_again(tier, entry)

        assert counted.up == [False, True]
        assert names(logged()) == ["redis_down", "redis_up"]
        assert (await tier.state()).trouble == ""


async def test_f80_a_host_that_says_nothing_costs_no_more_than_the_cap() -> None:
    with socket.socket() as deaf, socket.socket() as one, socket.socket() as two:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filling in (one, two):  # what comes after these is not even refused
            filling.settimeout(0)
            filling.connect_ex(deaf.getsockname())
        async with redis_tier(f"redis://127.0.0.1:{deaf.getsockname()[1]}", timeout_ms=50) as (tier, counted):
            answers = [await tier.get_many([entry_of("text").key]) for _ in range(100)]
            await until(lambda: counted.up == [False])

            assert answers == [{}] * 100
            assert (await tier.state()).trouble == "timeout"


async def test_f81_killed_under_load_costs_a_handful_of_calls_and_returns(server: RedisServer, logged: Logged) -> None:
    entries = [entry_of(f"text {number}") for number in range(50)]
    enough = asyncio.Event()
    async with redis_tier(server.url) as (tier, counted), asyncio.TaskGroup() as group:
        await stored(tier, entries)
        group.create_task(load(tier, entries, callers=32, enough=enough))
        await until(lambda: counted.seen["hits"] > 500)
        before = counted.seen["read"]

        server.kill()
        await until(lambda: counted.up == [True, False])
        lost = counted.seen["read"] - before
        await server.start()
        await until(lambda: counted.up == [True, False, True])
        hits = counted.seen["hits"]
        await until(lambda: counted.seen["hits"] > hits + 500)
        enough.set()

    # Each caller's one call, those that waited for a connection among them, and for some a second one on a connection
    # that had not broken yet.
    assert lost <= 64
    assert names(logged()) == ["redis_down", "redis_up"]
    assert counted.seen["entry"] == counted.seen["protocol"] == 0


async def test_f82_frozen_under_load_a_handful_of_calls_wait_for_it(server: RedisServer, logged: Logged) -> None:
    entries = [entry_of(f"text {number}") for number in range(50)]
    enough = asyncio.Event()
    async with redis_tier(server.url, timeout_ms=200) as (tier, counted), asyncio.TaskGroup() as group:
        await stored(tier, entries)
        asked = await asked_of(server)
        server.freeze()

        group.create_task(load(tier, entries, callers=64, enough=enough))
        await until(lambda: counted.up == [True, False])
        enough.set()
        await asyncio.gather(*(tier.get_many([entries[0].key]) for _ in range(100)))
        server.thaw()

        assert await asked_of(server) - asked <= HANDFUL
        assert names(logged()) == ["redis_down"]


async def test_f82_who_waits_when_it_opens_is_let_go(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url, timeout_ms=100) as (tier, counted):
        await stored(tier, [entry])
        server.freeze()

        answers = await asyncio.gather(*(tier.get_many([entry.key]) for _ in range(200)))

        assert answers == [{}] * 200
        await asked_until_down(tier, counted, entry.key)  # a busy machine may doubt its own clock first
        assert counted.up == [True, False]
        assert await tier.get_many([entry.key]) == {}
        server.thaw()


async def test_f82_open_it_costs_no_await_at_all(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url, timeout_ms=50) as (tier, counted):
        server.freeze()
        await asked_until_down(tier, counted, entry.key)

        call = tier.get_many([entry.key])
        with pytest.raises(StopIteration) as returned:
            call.send(None)  # one step: a call that waits would give something to wait for

        assert returned.value.value == {}
        server.thaw()


async def test_f82_closing_does_not_wait_for_a_frozen_redis(server: RedisServer) -> None:
    async with redis_tier(server.url, timeout_ms=50) as (tier, _):
        await stored(tier, [entry_of("text")])
        server.freeze()
        tier.put_many([entry_of(f"text {number}", numbers=65_536) for number in range(20)], space_of())

        async with asyncio.timeout(5):  # two are promised
            await tier.close()

        assert (await tier.state()).name == "redis"
        server.thaw()


async def test_f84_a_thawed_redis_is_used_again_and_one_connection_asks_first(
    server: RedisServer, logged: Logged
) -> None:
    entry = entry_of("text")
    enough = asyncio.Event()
    async with redis_tier(server.url, timeout_ms=100) as (tier, counted), asyncio.TaskGroup() as group:
        await stored(tier, [entry])
        server.freeze()
        group.create_task(load(tier, [entry], callers=32, enough=enough))
        await until(lambda: counted.up == [True, False])

        server.thaw()
        connections = (await server.ask("INFO", "stats"))["total_connections_received"]
        await until(lambda: counted.up == [True, False, True])
        hits = counted.seen["hits"]
        await until(lambda: counted.seen["hits"] > hits + 100)
        enough.set()

        after = (await server.ask("INFO", "stats"))["total_connections_received"]
        assert after - connections <= 1 + 4 + 4  # ours that asks; theirs, and as many again on a busy machine
        assert names(logged()) == ["redis_down", "redis_up"]


async def test_f84_a_restart_between_two_calls_is_not_even_noticed(server: RedisServer, logged: Logged) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, [entry])
        server.kill()
        await server.start()

        assert await tier.get_many([entry.key]) == {}
        await stored(tier, [entry])

        assert counted.up == [True]
        assert counted.seen["read"] == 0
        assert logged() == []


async def test_f82_a_stalled_stand_in_is_left_alone() -> None:
    async with serving(stall) as port, redis_tier(f"redis://127.0.0.1:{port}", timeout_ms=50) as (tier, counted):
        await asked_until_down(tier, counted, entry_of("text").key)

        assert (counted.up, counted.seen["hits"]) == ([False], 0)
