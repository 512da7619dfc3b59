"""What litellm would refuse by itself, or add on its own, over real wires: healed, told by name, or left as it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.app import RunningGateway, running
from tests.support.wires import UPSTREAM_KEY, Anthropic, WireUpstream

HI = {"role": "user", "content": "Hi"}
MORE = {"role": "user", "content": "More"}


@asynccontextmanager
async def serving(model: str, **deployment: Any) -> AsyncIterator[tuple[RunningGateway, WireUpstream]]:
    """Serve `small` by a model over the preset of Anthropic, whose settings have a temperature."""
    async with WireUpstream(Anthropic()) as upstream:
        provider = {"base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        route = {"deployments": [{"provider": "anthropic", "model": model, **deployment}]}
        config = {"providers": {"anthropic": provider}, "models": {"small": route}}
        async with running(json.dumps(config)) as gateway:
            yield gateway, upstream


@pytest.mark.parametrize(("model", "attempts"), [("claude-opus-4-7", "1"), ("claude-opus-5-5-20991231", "2")])
async def test_a_model_that_takes_no_temperature_answers_whether_it_is_known_or_not(model: str, attempts: str) -> None:
    async with serving(model) as (gateway, upstream):
        first = await gateway.chat()
        later = await gateway.chat()

    assert (first.status, later.status) == (200, 200)
    assert (first.headers["x-gateway-attempts"], later.headers["x-gateway-attempts"]) == (attempts, "1")
    assert all("temperature" not in request.json for request in upstream.requests)


async def test_a_callers_temperature_is_refused_by_name() -> None:
    async with serving("claude-opus-4-7") as (gateway, upstream):
        answer = await gateway.chat(temperature=0.5)

    assert (answer.status, upstream.requests) == (400, [])
    assert (answer.json["error"]["param"], answer.json["error"]["code"]) == ("temperature", "unsupported_value")


async def test_or_dropped_and_told() -> None:
    async with serving("claude-opus-5-5-20991231", drop_params=True) as (gateway, _):
        answer = await gateway.chat(temperature=0.5)

    assert (answer.status, answer.headers["x-gateway-dropped-params"]) == (200, "temperature")


async def test_no_words_that_nobody_wrote_reach_the_model() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        HI,
        {"role": "assistant", "content": ""},
        MORE,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "system", "content": "Be brief"},
    ]

    async with serving("claude-sonnet-4-5") as (gateway, upstream):
        answer = await gateway.chat(messages=messages)

    assert (answer.status, upstream.mistakes) == (200, [])
    sent = upstream.requests[0].json
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "More"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "3"},
                {"type": "text", "text": "Be brief"},
            ],
        },
    ]
    assert [tool["name"] for tool in sent["tools"]] == ["add"]
    assert sent["tool_choice"] == {"type": "none"}
