"""Rows F85 to F87, as far as they are about remembered embeddings: what replies is no Redis, or one that refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cache.redis_words import PREFIX
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
from tests.support.sockets import serving

__all__ = ["logged"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as running:
        yield running


GARBAGE = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "noise": bytes(range(256)) * 4,
    "one word": b"+OK\r\n",
    "a number": b":1\r\n",
    "a text": b"$5\r\nhello\r\n",
    "no list": b"*-1\r\n",
    "no values": b"*0\r\n",
    "too many values": b"*2\r\n$-1\r\n$-1\r\n",
    "numbers in a list": b"*1\r\n:1\r\n",
    "a list in a list": b"*1\r\n*1\r\n$1\r\nx\r\n",
    "an error in a list": b"*1\r\n-ERR no\r\n",
    "lists in lists": b"*1\r\n" * 100 + b":1\r\n",
}


def replying(words: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(words)

    return act


@pytest.mark.parametrize("words", GARBAGE.values(), ids=GARBAGE.keys())
async def test_f85_garbage_is_a_miss_and_the_connection_is_dropped(words: bytes, logged: Logged) -> None:
    async with (
        serving(replying(words)) as port,
        redis_tier(f"redis://127.0.0.1:{port}", timeout_ms=2000) as (tier, counted),
    ):
        answers = [await tier.get_many([entry_of("text").key]) for _ in range(10)]

        assert answers == [{}] * 10
        assert counted.seen == {"hits": 0, "misses": 3, "read": 3, "protocol": 3}
        assert counted.up == [False]
        assert [line["reason"] for line in logged()] == ["not a Redis reply"]


@pytest.mark.parametrize("words", [b"$1000000000000\r\nx", b"*1\r\n$100\r\nx", b"*1\r\n" * 100, b""])
async def test_f85_a_reply_that_does_not_end_is_a_timeout(words: bytes) -> None:
    async with (
        serving(replying(words)) as port,
        redis_tier(f"redis://127.0.0.1:{port}", timeout_ms=50) as (tier, counted),
    ):
        await asked_until_down(tier, counted, entry_of("text").key)

        assert (counted.up, counted.seen["hits"]) == ([False], 0)
        assert (await tier.state()).trouble == "timeout"


async def test_f85_a_key_of_another_type_is_a_miss_and_is_written_over(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (tier, counted):
        await server.ask("LPUSH", PREFIX + entry.key, "not an entry")

        assert await tier.get_many([entry.key]) == {}
        await stored(tier, [entry])

        assert counted.up == [True]


async def test_f85_what_comes_unasked_between_two_calls_is_never_read(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (direct, _):
        await stored(direct, [entry])

    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            while asked := await reader.read(65_536):
                to_there.write(asked)
                writer.write(await there.read(65_536) + b"*1\r\n$-1\r\n")
        finally:
            to_there.close()

    async with serving(talkative) as port, redis_tier(f"redis://127.0.0.1:{port}") as (tier, counted):
        answers = [await tier.get_many([entry.key]) for _ in range(20)]

        assert answers == [{entry.key: entry}] * 20
        assert counted.seen["read"] == 0


async def test_f86_a_full_redis_is_read_but_not_written_and_is_told_once(server: RedisServer, logged: Logged) -> None:
    entry, more = entry_of("text"), [entry_of(f"text {number}") for number in range(20)]
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, [entry])
        await server.ask("CONFIG", "SET", "maxmemory", "1")

        for each in more:
            tier.put_many([each], space_of())
            assert await tier.get_many([entry.key]) == {entry.key: entry}

        assert counted.up == [True]
        assert counted.seen["write"] >= 1
        assert [(line["event"], line["reason"]) for line in logged()] == [("redis_refuses_writes", "OOM")]
        assert (await tier.state()).trouble == "OOM"


async def test_f86_a_replica_is_read_until_it_takes_writes_again(server: RedisServer, logged: Logged) -> None:
    now = [0.0]
    entry, other = entry_of("text"), entry_of("other")
    async with redis_tier(server.url, clock=lambda: now[0]) as (tier, counted):
        await stored(tier, [entry])
        await server.ask("REPLICAOF", "127.0.0.1", str(free_port()))
        tier.put_many([other], space_of())
        await until(lambda: counted.seen["write"] == 1)
        assert await tier.get_many([entry.key]) == {entry.key: entry}

        await server.ask("REPLICAOF", "NO", "ONE")
        now[0] += 5.0
        await stored(tier, [other])

        lines = logged()
        assert names(lines) == ["redis_refuses_writes", "redis_accepts_writes"]
        assert lines[0]["reason"] == "READONLY"
        assert counted.up == [True]


async def test_f86_without_its_password_it_is_down(tmp_path: Path, logged: Logged) -> None:
    async with (
        redis_server(tmp_path, "--requirepass", "open sesame") as server,
        redis_tier(server.url) as (tier, counted),
    ):
        answers = [await tier.get_many([entry_of("text").key]) for _ in range(10)]

        assert answers == [{}] * 10
        assert counted.seen["read"] == 3
        assert [line["reason"] for line in logged()] == ["NOAUTH"]


async def test_f86_a_wrong_password_is_never_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with redis_server(tmp_path, "--requirepass", "open-sesame") as server:
        urls = [
            f"redis://:hunter2secret@127.0.0.1:{server.port}/0",
            "redis://:hunter2secret@127.0.0.1:hunter2secret/0",
            "http://:hunter2secret@127.0.0.1:1/0",
            f"redis://127.0.0.1:{server.port}/0?hunter2secret=1",
            "redis://:hunter2secret@[/",
        ]
        said = []
        for url in urls:
            async with redis_tier(url) as (tier, counted):
                assert await tier.get_many([entry_of("text").key]) == {}
                said.append((await tier.state()).trouble)
                said.append(repr(tier))
                assert counted.up == [False]

    captured = capsys.readouterr()
    assert "hunter2" not in " ".join((*said, captured.err, captured.out))
    assert said[::2] == ["WRONGPASS", *["redis.url cannot be read"] * 4]


async def test_f86_with_its_password_it_is_used(tmp_path: Path) -> None:
    entry = entry_of("text")
    async with (
        redis_server(tmp_path, "--requirepass", "open-sesame") as server,
        redis_tier(f"redis://:open-sesame@127.0.0.1:{server.port}/3") as (tier, _),
    ):
        await stored(tier, [entry])

        assert await tier.get_many([entry.key]) == {entry.key: entry}


async def test_f86_a_redis_that_runs_a_script_is_down_until_it_ends(server: RedisServer, logged: Logged) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, [entry])
        await server.ask("CONFIG", "SET", "lua-time-limit", "10")
        script = asyncio.create_task(server.ask("EVAL", "while true do end", "0"))

        await asked_until_down(tier, counted, entry.key)
        assert [line["reason"] for line in logged()] == ["BUSY"]
        await server.ask("SCRIPT", "KILL")
        await asyncio.gather(script, return_exceptions=True)
        await reads_again(tier, entry)

        assert names(logged()) == ["redis_up"]


REFUSALS = [
    "LOADING Redis is loading the dataset in memory",
    "MOVED 3999 127.0.0.1:6381",
    "CLUSTERDOWN The cluster is down",
    "MASTERDOWN Link with MASTER is down",
    "NOPERM this user has no permissions to run the 'mget' command",
    "CROSSSLOT Keys in request don't hash to the same slot",
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_f86_what_redis_refuses_is_a_miss_until_it_does_not(refusal: str, logged: Logged) -> None:
    async with (
        serving(replying(f"-{refusal}\r\n".encode())) as port,
        redis_tier(f"redis://127.0.0.1:{port}") as (tier, counted),
    ):
        answers = [await tier.get_many([entry_of("text").key]) for _ in range(10)]

        assert answers == [{}] * 10
        assert counted.seen == {"hits": 0, "misses": 3, "read": 3}
        assert [line["reason"] for line in logged()] == [refusal.partition(" ")[0]]


async def test_f87_flushed_it_has_nothing_and_is_filled_again(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, [entry])
        await server.ask("FLUSHALL")

        assert await tier.get_many([entry.key]) == {}
        await stored(tier, [entry])

        assert (counted.up, counted.seen["read"]) == ([True], 0)
