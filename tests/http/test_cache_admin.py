"""GET and DELETE /admin/cache: operators see what is remembered, administrators make it forgotten."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cache import CacheSettings, Entry, RedisSettings, build_tiers, make_space
from tests.support.app import RunningGateway, make_config, running
from tests.support.embedding import embed, make_caching
from tests.support.upstream import ScriptedUpstream

KEYS = [
    {"name": "user", "key": "sk-user-0123456789"},
    {"name": "viewer", "key": "sk-viewer-0123456789", "role": "viewer"},
    {"name": "admin", "key": "sk-admin-0123456789", "role": "admin"},
]
PATH = "/admin/cache"


class Silent:
    """Counts nothing."""

    def looked_up(self, tier: str, hits: int, misses: int) -> None: ...
    def evicted(self, tier: str, entries: int, reason: str) -> None: ...
    def failed(self, tier: str, operation: str) -> None: ...
    def damaged(self, tier: str, what: str) -> None: ...
    def is_up(self, tier: str, *, up: bool) -> None: ...


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


async def remember(directory: Path, label: str, count: int) -> None:
    """Put that many entries where the gateway with this data directory looks."""
    tiers = build_tiers(
        CacheSettings(memory=None), RedisSettings(), directory, Silent(), now=time.time, dice=random.random
    )
    space = make_space(scope="", label=label, revision="", fields={})
    vector = b"\0\0\200?" * 256
    tiers.remember(
        [Entry(space.key(str(number)), space.id, vector, created=int(time.time())) for number in range(count)], space
    )
    await tiers.close()


def config(directory: Path, cache: Any = None) -> str:
    return make_config(
        "http://127.0.0.1:9/v1", keys=KEYS, server={"data_dir": str(directory)}, embeddings={"cache": cache}
    )


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """Serve with memory and disk, on which there are 3 entries of `up0/model` and 2 of `up0/other:7b`."""
    await remember(tmp_path, "up0/model", 3)
    await remember(tmp_path, "up0/other:7b", 2)
    async with running(config(tmp_path, {})) as running_gateway:
        yield running_gateway


async def models(gateway: RunningGateway) -> dict[str, int]:
    answer = await gateway.ask("GET", PATH, headers=bearer("viewer"))
    assert answer.status == 200, answer.body
    return {model["model"]: model["entries"] for model in answer.json["models"]}


@pytest.mark.parametrize("name", ["viewer", "admin"])
async def test_operators_see_what_the_tiers_hold_and_of_which_model(gateway: RunningGateway, name: str) -> None:
    answer = await gateway.ask("GET", PATH, headers=bearer(name))

    memory, disk = answer.json["tiers"]
    assert answer.status == 200
    assert (memory["tier"], memory["entries"], memory["max_bytes"]) == ("memory", 0, 64 << 20)
    assert (disk["tier"], disk["entries"], disk["max_bytes"], disk["trouble"]) == ("disk", 5, 2048 << 20, None)
    assert disk["bytes"] > 5 * 1024
    assert [(model["model"], model["entries"]) for model in answer.json["models"]] == [
        ("up0/model", 3),
        ("up0/other:7b", 2),
    ]
    assert all(model["bytes"] > 1024 * model["entries"] for model in answer.json["models"])


@pytest.mark.parametrize(("method", "name"), [("GET", "user"), ("DELETE", "user"), ("DELETE", "viewer")])
async def test_others_may_not(gateway: RunningGateway, method: str, name: str) -> None:
    answer = await gateway.ask(method, PATH, headers=bearer(name))

    assert (answer.status, answer.error["code"]) == (403, "role_not_allowed")
    assert await models(gateway) == {"up0/model": 3, "up0/other:7b": 2}


@pytest.mark.parametrize("query", ["model=up0/other:7b", "model=up0%2Fother%3A7b"])
async def test_one_model_is_forgotten(gateway: RunningGateway, query: str) -> None:
    answer = await gateway.ask("DELETE", f"{PATH}?{query}", headers=bearer("admin"))

    assert answer.status == 200
    assert answer.json == {"model": "up0/other:7b", "cleared": {"memory": 0, "disk": 2}, "trouble": {}}
    assert await models(gateway) == {"up0/model": 3}


async def test_everything_is_forgotten_and_written_down(
    gateway: RunningGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await gateway.ask("DELETE", PATH, headers=bearer("admin"))

    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "cache_cleared" in line]
    assert [(event["caller"], event["model"], event["entries"]) for event in events] == [
        ("admin", None, {"memory": 0, "disk": 5})
    ]
    assert answer.json == {"model": None, "cleared": {"memory": 0, "disk": 5}, "trouble": {}}
    assert await models(gateway) == {}


MISTAKES = {
    "another word": ("modle=up0/model", "modle"),
    "another word besides": ("model=up0/model&all=1", "all"),
    "no model": ("model=", "model"),
    "an alias": ("model=small", "model"),
    "half a model": ("model=up0/", "model"),
    "two models": ("model=up0/model&model=up0/other:7b", "model"),
    "a very long one": (f"model=up0/{'x' * 2000}", "model"),
}


@pytest.mark.parametrize(("query", "param"), MISTAKES.values(), ids=MISTAKES)
async def test_what_is_not_understood_clears_nothing(gateway: RunningGateway, query: str, param: str) -> None:
    answer = await gateway.ask("DELETE", f"{PATH}?{query}", headers=bearer("admin"))

    assert (answer.status, answer.error["param"]) == (400, param)
    assert await models(gateway) == {"up0/model": 3, "up0/other:7b": 2}


async def test_where_nothing_is_remembered_there_is_nothing_to_forget(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as gateway:
        shown = await gateway.ask("GET", PATH, headers=bearer("admin"))
        cleared = await gateway.ask("DELETE", PATH, headers=bearer("admin"))

    assert (shown.status, shown.json) == (200, {"tiers": [], "models": []})
    assert (cleared.status, cleared.json) == (200, {"model": None, "cleared": {}, "trouble": {}})


async def test_a_redis_that_is_gone_is_told_of_and_the_rest_is_cleared(tmp_path: Path) -> None:
    await remember(tmp_path, "up0/model", 3)
    text = json.dumps({**json.loads(config(tmp_path, {})), "redis": {"url": "redis://127.0.0.1:9/0"}})

    async with running(text) as gateway:
        cleared = await gateway.ask("DELETE", PATH, headers=bearer("admin"))
        shown = await gateway.ask("GET", PATH, headers=bearer("admin"))

    assert cleared.status == 200
    assert cleared.json["cleared"] == {"memory": 0, "disk": 3, "redis": 0}
    assert list(cleared.json["trouble"]) == ["redis"]
    assert [tier["tier"] for tier in shown.json["tiers"] if tier["trouble"]] == ["redis"]


async def test_a_file_that_is_none_is_told_of_and_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no directory")

    async with running(config(tmp_path, {})) as gateway:
        answer = await gateway.ask("GET", PATH, headers=bearer("viewer"))

    assert (answer.status, answer.json["models"]) == (200, None)
    assert answer.json["tiers"][1]["trouble"]


async def test_what_the_tiers_hold_is_on_the_metrics_page(gateway: RunningGateway) -> None:
    found: dict[tuple[str, ...], float] = {}
    while ("gateway_embedding_cache_entries", "disk") not in found:
        await asyncio.sleep(0.02)
        found = await gateway.figures(headers=bearer("viewer"))

    assert found["gateway_embedding_cache_entries", "disk"] == 5
    assert found["gateway_embedding_cache_entries", "memory"] == 0
    assert found["gateway_embedding_cache_bytes", "disk"] > 5 * 1024


async def test_what_one_process_is_made_to_forget_all_forget(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    text = make_caching(upstream, embeddings={}, server={"data_dir": str(tmp_path)})
    async with running(text) as one, running(text) as other:
        await embed(one, ["a", "b"])
        while {tier["tier"]: tier["entries"] for tier in (await one.ask("GET", PATH)).json["tiers"]}["disk"] != 2:
            await asyncio.sleep(0.01)
        assert (await embed(other, ["a", "b"])).headers["x-gateway-cache"] == "hits=2 misses=0 disk=2"
        before = len(upstream.requests)

        cleared = await one.ask("DELETE", f"{PATH}?model=up0/model")
        here = await embed(one, ["a", "b"], cache="only-if-cached")
        while (await embed(other, ["a", "b"], cache="only-if-cached")).status == 200:
            await asyncio.sleep(0.01)

    assert cleared.json["cleared"] == {"memory": 2, "disk": 2}
    assert here.status != 200
    assert len(upstream.requests) == before


async def test_look_ups_are_on_the_metrics_page_at_once(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        await embed(gateway, ["a", "b"])
        await embed(gateway, ["a", "b", "c"])

        found = await gateway.figures()

    assert found["gateway_embedding_cache_lookups_total", "hit", "memory"] == 2
    assert found["gateway_embedding_cache_lookups_total", "memory", "miss"] == 3
