"""The names an application asks for: classes, `auto`, models by their own name, and classes that nobody serves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.app import CHAT, Answer, RunningGateway, running
from tests.support.upstream import ScriptedUpstream

KEYS = [
    {"name": "all", "key": "sk-all"},
    {"name": "fast", "key": "sk-fast", "models": ["small"]},
    {"name": "chosen", "key": "sk-auto", "models": ["auto"]},
]


@pytest.fixture
async def classes(upstream: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    """Serve the three classes of text by models of their own; what would serve images has no key."""
    provider = {
        "kind": "openai",
        "base_url": upstream.base_url,
        "classes": {"small": "s-1", "medium": "maker/m-1", "large": "l-1"},
        "models": {"known-1": {"context_window": 1000}},
    }
    text = json.dumps({"auth": {"keys": KEYS}, "providers": {"up": provider, "openai": {}, "xai": {}}})
    async with running(text) as gateway:
        yield gateway


async def ask(gateway: RunningGateway, body: dict[str, Any], key: str = "sk-all", **headers: str) -> Answer:
    return await gateway.ask(
        "POST",
        "/v1/chat/completions",
        data=json.dumps({**CHAT, **body}).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {key}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
    )


@pytest.mark.parametrize(
    ("body", "headers", "model"),
    [
        ({}, {}, "maker/m-1"),
        ({}, {"x_gateway_speed": "fast"}, "s-1"),
        ({}, {"x_gateway_speed": " Fast "}, "s-1"),
        ({}, {"x_gateway_complexity": "high"}, "l-1"),
        ({}, {"x_gateway_speed": "fast", "x_gateway_complexity": "high"}, "s-1"),
        ({"metadata": {"complexity": "high"}}, {}, "l-1"),
        ({"metadata": {"speed": " Fast"}}, {}, "s-1"),
        ({"metadata": {"speed": ["fast"]}}, {}, "maker/m-1"),
        ({"metadata": {"speed": "slow"}}, {"x_gateway_complexity": "high"}, "l-1"),
        ({"metadata": None}, {}, "maker/m-1"),
    ],
)
async def test_auto_is_the_class_that_suits_the_task(
    classes: RunningGateway, upstream: ScriptedUpstream, body: Any, headers: dict[str, str], model: str
) -> None:
    answer = await ask(classes, {"model": "auto", **body}, **headers)

    assert answer.status == 200
    assert upstream.requests[0].json["model"] == model
    assert answer.headers["x-gateway-deployment"] == f"up/{model}"


@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        ("sk-fast", {"x_gateway_speed": "fast"}, 200),
        ("sk-fast", {}, 403),
        ("sk-auto", {}, 200),
        ("sk-auto", {"x_gateway_complexity": "high"}, 200),
    ],
)
async def test_auto_is_for_who_may_use_it_or_the_class_it_comes_to(
    classes: RunningGateway, key: str, headers: dict[str, str], status: int
) -> None:
    answer = await ask(classes, {"model": "auto"}, key, **headers)

    assert answer.status == status


async def test_auto_may_have_a_style(classes: RunningGateway, upstream: ScriptedUpstream) -> None:
    await ask(classes, {"model": "auto:precise"}, x_gateway_speed="fast")

    assert upstream.requests[0].json["model"] == "s-1"
    assert upstream.requests[0].json["temperature"] == 0.2


@pytest.mark.parametrize("name", ["s-1", "maker/m-1", "known-1", "up/anything", "up/small"])
async def test_a_model_may_be_asked_for_by_its_own_name(
    classes: RunningGateway, upstream: ScriptedUpstream, name: str
) -> None:
    answer = await ask(classes, {"model": name})

    assert answer.status == 200
    assert upstream.requests[0].json["model"] == {"up/anything": "anything", "up/small": "s-1"}.get(name, name)


async def test_a_models_own_name_is_for_who_may_use_it(classes: RunningGateway, upstream: ScriptedUpstream) -> None:
    answer = await ask(classes, {"model": "known-1"}, "sk-fast")

    assert answer.status == 403
    assert upstream.requests == []


async def test_a_class_that_nobody_serves_says_what_would_enable_it(classes: RunningGateway) -> None:
    answer = await ask(classes, {"model": "image"})

    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
    assert answer.error["message"] == (
        "No provider that is on serves the class 'image'. To have it, switch on openai (OPENAI_API_KEY is empty), "
        "xai (XAI_API_KEY is empty), or name a deployment in models.image."
    )


async def test_an_unknown_model_lists_what_the_caller_may_use(classes: RunningGateway) -> None:
    everyone = await ask(classes, {"model": "smoll"})
    restricted = await ask(classes, {"model": "smoll"}, "sk-fast")

    assert everyone.status == 404
    assert everyone.error["message"].endswith("You may use: small, medium, large, auto.")
    assert restricted.error["message"].endswith("You may use: small.")


async def test_auto_goes_to_what_is_served_and_says_what_is_missing_where_nothing_is(
    upstream: ScriptedUpstream,
) -> None:
    provider = {"kind": "openai", "base_url": upstream.base_url, "classes": {"small": "s-1"}}
    async with running(json.dumps({"providers": {"up": provider}})) as gateway:
        served = await ask(gateway, {"model": "auto"})
    async with running(json.dumps({"providers": {"up": {**provider, "classes": {}}}})) as gateway:
        missing = await ask(gateway, {"model": "auto"})

    assert (served.status, served.headers["x-gateway-deployment"]) == (200, "up/s-1")
    assert missing.status == 404
    assert "'medium', 'small' or 'large'" in missing.error["message"]


async def test_the_list_has_auto_behind_the_classes(classes: RunningGateway) -> None:
    async with classes.client("sk-all") as client:
        listed = [model.id async for model in client.models.list()]

    assert listed == ["small", "medium", "large", "auto"]
