"""Row F82 for names: a name server that does not answer costs no more than Redis itself, and holds nothing up."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, redis_server
from tests.support.redis_tier import entry_of, reads_again, redis_tier, stored

KEY = entry_of("text").key
SLOW_IMPORT = """
import asyncio, sys, time
from importlib.abc import MetaPathFinder

class SlowDisk(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "redis.asyncio":
            time.sleep(0.8)

sys.meta_path.insert(0, SlowDisk())
from tests.support.redis_tier import redis_tier

async def main():
    async with redis_tier(sys.argv[1], timeout_ms=50) as (tier, counted):
        await tier.warm()
        print(counted.up)

asyncio.run(main())
"""


class Names:
    """A name server: it knows one host, and answers when it is let."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.answers = threading.Event()
        self.asked = 0

    def find(self, _host: str) -> list[str]:
        self.asked += 1
        self.answers.wait(20)
        return self.addresses


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as running:
        yield running


async def test_a_name_that_nobody_tells_is_asked_for_once_and_used_when_it_is_told(server: RedisServer) -> None:
    names, entry = Names("127.0.0.1"), entry_of("text")
    before = threading.active_count()
    async with redis_tier(f"redis://redis.test:{server.port}/0", timeout_ms=50, find=names.find) as (tier, counted):
        await tier.warm()
        missed = [await tier.get_many([KEY]) for _ in range(20)]
        await tier.warm()
        (looking,) = (thread for thread in threading.enumerate() if thread.name == "redis-name")
        asked = names.asked
        names.answers.set()
        await reads_again(tier, entry)

    assert missed == [{}] * 20
    assert counted.up[0] is False
    assert asked == 1
    assert looking.daemon  # the process does not wait for it at its end
    assert threading.active_count() <= before + 1  # and the one that imported


async def test_closing_does_not_wait_for_a_name(tmp_path: Path) -> None:
    names = Names()
    async with redis_tier("redis://redis.test:1/0", timeout_ms=50, find=names.find) as (tier, _):
        await tier.get_many([KEY])
        began = time.monotonic()
    seconds = time.monotonic() - began

    names.answers.set()
    assert seconds < 1


async def test_of_several_addresses_one_that_answers_is_used(server: RedisServer) -> None:
    names, entry = Names("::1", "127.0.0.9", "127.0.0.1"), entry_of("text")
    names.answers.set()

    async with redis_tier(f"redis://redis.test:{server.port}/0", find=names.find) as (tier, counted):
        await stored(tier, [entry])

    assert counted.up == [True]


async def test_a_name_that_is_unknown_is_told_as_such() -> None:
    def find(_host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with redis_tier("redis://redis.test:6379/0", find=find) as (tier, _):
        await tier.get_many([KEY])

        assert (await tier.state()).trouble == "unknown host"


async def test_a_library_that_is_slow_to_load_is_no_trouble_of_redis(server: RedisServer) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SLOW_IMPORT, server.url], capture_output=True, text=True, check=False, timeout=30
    )

    assert (ended.stdout, ended.stderr) == ("[True]\n", "")
