"""Embeddings remembered by the real command: over restarts and kills, by all workers, by hosts that share a Redis."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import APIConnectionError, AsyncOpenAI

from tests.support.command import Gateway, serving
from tests.support.redis_server import RedisServer, free_port
from tests.support.upstream import ScriptedUpstream, make_vector

TEXTS = [f"text {number}" for number in range(40)]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as running:
        yield running


def configured(upstream: ScriptedUpstream, *, workers: int = 1, redis: str = "", **cache: Any) -> str:
    return json.dumps(
        {
            "server": {"workers": workers, "data_dir": "data"},
            "providers": {"up": {"kind": "openai", "base_url": upstream.base_url, "api_key": "x"}},
            "models": {"embedding": {"deployments": ["up/model"]}},
            "embeddings": {"cache": cache},
            "redis": {"url": redis},
        }
    )


async def embed(gateway: Gateway, texts: Sequence[str]) -> str:
    """Ask with the official client; the vectors must be right. Return what the answer says of the cache."""
    async with AsyncOpenAI(base_url=gateway.api_url, api_key="any", max_retries=0, timeout=20) as client:
        raw = await client.embeddings.with_raw_response.create(model="embedding", input=list(texts))
    answer = raw.parse()
    assert [list(item.embedding) for item in answer.data] == [pytest.approx(make_vector(text)) for text in texts]
    assert [item.index for item in answer.data] == list(range(len(texts)))
    return raw.headers["x-gateway-cache"]


def asked(upstream: ScriptedUpstream) -> int:
    return sum(len(request.json["input"]) for request in upstream.requests)


async def test_what_was_asked_before_a_restart_comes_from_disk(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    yaml = configured(upstream)
    with serving(yaml, tmp_path) as gateway:
        assert await embed(gateway, TEXTS) == "hits=0 misses=40"
    with serving(yaml, tmp_path) as gateway:
        assert await embed(gateway, TEXTS) == "hits=40 misses=0 disk=40"
        assert await embed(gateway, TEXTS) == "hits=40 misses=0 memory=40"

    assert asked(upstream) == 40


async def test_f99_a_killed_worker_costs_nothing_that_was_written(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with serving(configured(upstream), tmp_path) as gateway:
        await embed(gateway, TEXTS[:20])
        await until_remembered(gateway, TEXTS[:20])
        asking = asyncio.create_task(embed(gateway, TEXTS[20:]))
        await upstream.request(1)
        os.kill(gateway.events("worker_ready")[-1]["pid"], signal.SIGKILL)
        await asyncio.wait([asking])
        gateway.wait_for(lambda: len(gateway.events("worker_ready")) == 2)
        said = await embed(gateway, TEXTS)

    assert isinstance(asking.exception(), APIConnectionError) or asking.exception() is None
    assert said.endswith(f"disk={said.split()[0].removeprefix('hits=')}")
    assert said in ("hits=20 misses=20 disk=20", "hits=40 misses=0 disk=40")  # a batch is there whole or not at all


async def test_workers_share_what_is_on_disk(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with serving(configured(upstream, workers=2, memory=None), tmp_path) as gateway:
        await embed(gateway, TEXTS)
        await until_remembered(gateway, TEXTS)
        said = {await embed(gateway, TEXTS) for _ in range(12)}  # a new connection each: either worker takes it

    assert said == {"hits=40 misses=0 disk=40"}


async def test_hosts_share_what_is_in_redis_and_live_without_it(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port())
    await server.start()
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    yaml = configured(upstream, redis=server.url)
    try:
        with serving(yaml, one) as first, serving(yaml, two) as second:
            await embed(first, TEXTS[:20])
            async with asyncio.timeout(10):
                while await server.ask("DBSIZE") != 20:
                    await asyncio.sleep(0.02)
            assert await embed(second, TEXTS[:20]) == "hits=20 misses=0 redis=20"
            server.kill()
            assert await embed(second, TEXTS) == "hits=20 misses=20 memory=20"
            assert await embed(first, TEXTS) == "hits=20 misses=20 memory=20"
            second.wait_for(lambda: second.events("redis_down"))
            await server.start()
            second.wait_for(lambda: second.events("redis_up"), timeout=10)
    finally:
        server.kill()

    assert asked(upstream) == 60


async def test_f96_what_cannot_be_written_any_more_does_not_hold_up_the_end(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path, free_port())
    await server.start()
    try:
        with serving(configured(upstream, redis=server.url), tmp_path) as gateway:
            await embed(gateway, TEXTS[:20])
            await until_remembered(gateway, TEXTS[:20])
            server.freeze()
            stopped = os.open(next(tmp_path.rglob("embeddings.sqlite.lock")), os.O_RDWR)
            fcntl.flock(stopped, fcntl.LOCK_EX)
            said = await embed(gateway, TEXTS)

            gateway.send(signal.SIGTERM)
            async with asyncio.timeout(4):  # two seconds, and what a busy machine adds
                code = await asyncio.to_thread(gateway.wait)
            os.close(stopped)
    finally:
        server.kill()

    assert said == "hits=20 misses=20 memory=20"
    assert code == 0


async def until_remembered(gateway: Gateway, texts: Sequence[str]) -> None:
    """Wait until all of it is written; the memory of the worker that is asked does not count."""
    async with AsyncOpenAI(base_url=gateway.api_url, api_key="any", max_retries=0) as client, asyncio.timeout(10):
        while True:
            page = await client.get("/../admin/cache", cast_to=dict[str, Any])
            held = {tier["tier"]: tier["entries"] for tier in page["tiers"]}
            if held["disk"] >= len(texts):
                return
            await asyncio.sleep(0.02)
