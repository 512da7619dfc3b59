"""Row F89, and what is like it: whoever leaves, and however many ask, every answer is of its own key."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, redis_server
from tests.support.redis_tier import entry_of, logged, redis_tier, stored, until

__all__ = ["logged"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as running:
        yield running


async def test_f89_cancelled_at_any_moment_every_answer_is_of_its_own_key(server: RedisServer) -> None:
    entries = [entry_of(f"nonce {number}") for number in range(200)]
    dice = random.Random(89)
    cancelled = 0
    async with redis_tier(server.url, timeout_ms=5000) as (tier, counted):
        await stored(tier, entries)
        connections = (await server.ask("INFO", "stats"))["total_connections_received"]

        for _ in range(400):
            asked = [dice.sample(entries, dice.randint(1, 20)) for _ in range(10)]
            calls = [asyncio.create_task(tier.get_many([entry.key for entry in each])) for each in asked]
            for call in dice.sample(calls, 5):
                for _ in range(dice.randint(0, 4)):
                    await asyncio.sleep(0)
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            cancelled += sum(isinstance(answer, asyncio.CancelledError) for answer in answers)
            for each, answer in zip(asked, answers, strict=True):
                assert isinstance(answer, asyncio.CancelledError) or answer == {entry.key: entry for entry in each}

        assert await tier.get_many([entry.key for entry in entries]) == {entry.key: entry for entry in entries}
        assert counted.seen["entry"] == counted.seen["protocol"] == counted.seen["read"] == 0
        assert counted.up == [True]
        assert cancelled > 400
        # Many were cancelled while they asked, and each of these has cost its connection.
        assert (await server.ask("INFO", "stats"))["total_connections_received"] > connections + 40


async def test_f89_cancelled_at_each_await_in_turn_nothing_is_lost(server: RedisServer) -> None:
    entry, other = entry_of("text"), entry_of("other")
    async with redis_tier(server.url) as (writer, _):
        await stored(writer, [entry, other])
    for connected, steps in itertools.product((False, True), range(15)):
        async with redis_tier(server.url, timeout_ms=5000) as (tier, counted):
            if connected:
                assert await tier.get_many([entry.key])
            call = asyncio.create_task(tier.get_many([entry.key]))
            for _ in range(steps):
                await asyncio.sleep(0)

            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

            found = await asyncio.gather(*(tier.get_many([other.key]) for _ in range(10)))
            assert (counted.seen["entry"], counted.seen["read"], counted.up) == (0, 0, [True])
            assert found == [{other.key: other}] * 10


async def test_f89_a_cancelled_calls_connection_is_dropped(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, [entry])
        ids = await server.ask("CLIENT", "LIST", "TYPE", "normal")
        server.freeze()
        call = asyncio.create_task(tier.get_many([entry.key]))
        await until(lambda: bool(tier._lines._lent))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        server.thaw()

        assert await tier.get_many([entry.key]) == {entry.key: entry}
        now = await server.ask("CLIENT", "LIST", "TYPE", "normal")
        assert str(ids) != str(now)
        assert counted.up == [True]


FORKED = """
import asyncio, os, sys
from gateway.cache import RedisTierSettings
from gateway.cache.redis import RedisTier
from tests.support.redis_tier import Counted, entry_of, stored

async def use(tier, entry):
    await stored(tier, [entry])
    for _ in range(200):
        assert await tier.get_many([entry.key]) == {entry.key: entry}
    await tier.close()

counted = Counted()
tier = RedisTier(sys.argv[1], RedisTierSettings(), 5.0, counted)
children = []
for number in range(4):
    if (child := os.fork()) == 0:
        asyncio.run(use(tier, entry_of(f"text {number}")))
        os._exit(0)
    children.append(child)
asyncio.run(use(tier, entry_of("parent")))
assert counted.seen["read"] == counted.seen["entry"] == 0
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


async def test_f80_processes_that_were_forked_each_open_their_own(server: RedisServer) -> None:
    forked = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FORKED, server.url],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert forked.returncode == 0
