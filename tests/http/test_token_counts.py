"""POST /v1/tokens/count: what a request comes to at each deployment of its name, without asking any of them."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import Any

import pytest

from tests.support.app import Answer, RunningGateway, make_config, running
from tests.support.embedding import embed
from tests.support.upstream import ScriptedUpstream

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "An old question. " * 40},
    {"role": "assistant", "content": "An old answer. " * 40},
    {"role": "user", "content": "A new question."},
]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
INPUTS = ["short", "a text of some more words " * 12]


def serving(upstream: ScriptedUpstream, *deployments: dict[str, Any], **truncation: str) -> str:
    """Return a configuration in which `small` has these deployments, usually one gpt-4o, and `embedding` one like the first.

    `truncation` is by alias.
    """
    config = json.loads(make_config(upstream, aliases=("small", "embedding")))
    wanted = [{"provider": "up0", "model": "gpt-4o", **each} for each in deployments or ({},)]
    config["models"]["small"] = {"deployments": wanted}
    config["models"]["embedding"] = {"deployments": [{**wanted[0], "model": "text-embedding-3-small"}]}
    for alias, word in truncation.items():
        config["models"][alias]["truncation"] = word
    return json.dumps(config)


async def count(gateway: RunningGateway, body: dict[str, Any], **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.ask(
        "POST",
        "/v1/tokens/count",
        data=io.BytesIO(json.dumps(body).encode()),
        headers={"Content-Type": "application/json", **names},
    )


async def test_a_chat_is_counted_by_its_parts_and_nobody_is_asked(upstream: ScriptedUpstream) -> None:
    body = {"model": "small", "messages": TURNS, "tools": [TOOL], "max_tokens": 100}
    async with running(serving(upstream, {"context_window": 8000})) as gateway:
        answer = await count(gateway, body)

    assert answer.status == 200, answer.body
    (told,) = answer.json.pop("deployments")
    tokens = told.pop("tokens")
    assert {key: value for key, value in answer.json.items() if key != "deployments"} == {
        "object": "token_count",
        "model": "small",
    }
    assert told == {
        "deployment": "up0/gpt-4o",
        "encoding": "o200k_base",
        "margin": 0.0,
        "context_window": 8000,
        "output_asked": 100,
        "input_limit": 7900,
        "fits": True,
        "would_drop": 0,
        "policy": "drop_oldest",
        "would_lower_to": None,
    }
    assert list(tokens) == ["messages", "images", "tools", "schema", "around", "total"]
    assert len(tokens["messages"]) == 4
    assert tokens["total"] == sum(tokens["messages"]) + tokens["tools"] + tokens["schema"] + tokens["around"]
    assert 160 < tokens["messages"][1] < 180
    assert upstream.requests == []


async def test_each_deployment_is_counted_in_its_own_way_in_order(upstream: ScriptedUpstream) -> None:
    deployments = ({"context_window": 100}, {"model": "somebody/own-model"}, {"model": "meta/llama-3.1-70b"})
    async with running(serving(upstream, *deployments)) as gateway:
        answer = await count(gateway, {"model": "small", "messages": TURNS})

    first, second, third = answer.json["deployments"]
    assert [each["deployment"] for each in (first, second, third)] == [
        "up0/gpt-4o",
        "up0/somebody/own-model",
        "up0/meta/llama-3.1-70b",
    ]
    assert (second["encoding"], second["margin"], third["encoding"]) == ("cl100k_base", 0.4, "llama3")
    assert second["tokens"]["total"] > first["tokens"]["total"]
    assert first["fits"] is False
    unknown = ("context_window", "output_asked", "input_limit", "fits")
    assert [second[name] for name in unknown] == [None] * 4
    assert second["would_drop"] == 0


@pytest.mark.parametrize("policy", ["drop_oldest", "middle"])
async def test_what_would_be_dropped_is_what_is_dropped(upstream: ScriptedUpstream, policy: str) -> None:
    body = {"model": "small", "messages": TURNS, "max_tokens": 20}
    async with running(serving(upstream, {"context_window": 200}, small=policy)) as gateway:
        (told,) = (await count(gateway, body)).json["deployments"]
        answer = await gateway.post("chat/completions", body)

    assert answer.status == 200
    assert (told["policy"], told["fits"], told["input_limit"]) == (policy, False, 180)
    assert told["would_drop"] > 100
    assert answer.headers["x-gateway-truncated"] == str(told["would_drop"])


@pytest.mark.parametrize("messages", [TURNS, TURNS[:1] + TURNS[-1:]], ids=["cut", "whole"])
async def test_what_the_answer_would_be_lowered_to_is_what_it_is_lowered_to(
    upstream: ScriptedUpstream, messages: list[dict[str, Any]]
) -> None:
    body = {"model": "small", "messages": messages, "max_tokens": 5000}
    async with running(serving(upstream, {"context_window": 200})) as gateway:
        (told,) = (await count(gateway, body)).json["deployments"]
        answer = await gateway.post("chat/completions", body)
        refused = await count(gateway, {**body, "messages": TURNS}, x_gateway_truncation="refuse")

    assert 100 < told["would_lower_to"] < 200
    assert answer.headers["x-gateway-max-tokens"] == str(told["would_lower_to"])
    assert upstream.requests[0].json["max_tokens"] == told["would_lower_to"]
    assert refused.json["deployments"][0]["would_lower_to"] is None


async def test_what_would_be_refused_drops_nothing(upstream: ScriptedUpstream) -> None:
    async with running(serving(upstream, {"context_window": 200})) as gateway:
        told = (await count(gateway, {"model": "small", "messages": TURNS}, x_gateway_truncation="refuse")).json
        alone = [{"role": "system", "content": "A rule. " * 300}]
        stays = (await count(gateway, {"model": "small", "messages": [*alone, TURNS[-1]]})).json

    assert [(each["fits"], each["would_drop"], each["policy"]) for each in told["deployments"]] == [
        (False, None, "refuse")
    ]
    assert stays["deployments"][0]["would_drop"] is None


async def test_nothing_is_cut_where_a_larger_model_is_asked_instead(upstream: ScriptedUpstream) -> None:
    config = json.loads(serving(upstream, {"context_window": 200}))
    config["models"]["small"]["context_fallbacks"] = ["up0/gpt-4.1"]
    async with running(json.dumps(config)) as gateway:
        told = (await count(gateway, {"model": "small", "messages": TURNS})).json["deployments"]
        cut = await count(gateway, {"model": "small", "messages": TURNS}, x_gateway_truncation="middle")

    assert [(each["deployment"], each["would_drop"], each["policy"]) for each in told] == [
        ("up0/gpt-4o", None, "refuse")
    ]
    assert cut.json["deployments"][0]["would_drop"] > 0


async def test_images_tools_and_schemas_are_told_apart(upstream: ScriptedUpstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    body = {"model": "small", "messages": messages, "tools": [TOOL], "response_format": schema}
    async with running(serving(upstream)) as gateway:
        tokens = (await count(gateway, body)).json["deployments"][0]["tokens"]

    assert tokens["images"] >= 85
    assert tokens["messages"][0] > tokens["images"]
    assert tokens["tools"] > 0
    assert tokens["schema"] > 0


async def test_a_longer_answer_than_half_of_the_window_takes_half_of_it(upstream: ScriptedUpstream) -> None:
    deployment = {"context_window": 1000, "max_output_tokens": 900, "settings": {"max_tokens": 300}}
    async with running(serving(upstream, deployment)) as gateway:
        asked = (await count(gateway, {"model": "small", "messages": TURNS, "max_completion_tokens": 5000})).json
        usual = (await count(gateway, {"model": "small", "messages": TURNS, "max_tokens": None})).json

    told = [(each["output_asked"], each["input_limit"]) for each in (asked["deployments"][0], usual["deployments"][0])]
    assert told == [(900, 500), (300, 700)]


@pytest.mark.parametrize(
    ("said", "set_by"), [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")]
)
async def test_a_callers_longest_answer_wins_over_the_deployments_by_whatever_name(
    upstream: ScriptedUpstream, said: str, set_by: str
) -> None:
    deployment = {"context_window": 1000, "settings": {set_by: 300}}
    body = {"model": "small", "messages": TURNS, said: 50}
    async with running(serving(upstream, deployment)) as gateway:
        (told,) = (await count(gateway, body)).json["deployments"]
        await gateway.post("chat/completions", body)

    assert told["output_asked"] == 50
    assert {name: value for name, value in upstream.requests[0].json.items() if name.startswith("max")} == {said: 50}


async def test_prompts_are_counted_too(upstream: ScriptedUpstream) -> None:
    async with running(serving(upstream)) as gateway:
        one = (await count(gateway, {"model": "small", "prompt": "Once upon a time", "stream": True})).json
        several = (await count(gateway, {"model": "small", "prompt": ["Once upon a time", "Never"]})).json

    assert one["deployments"][0]["tokens"] == {"prompts": [4], "around": 0, "total": 4}
    longest = 4  # each is answered by itself, and has the window for itself
    assert several["deployments"][0]["tokens"] == {"prompts": [4, 1], "around": 0, "total": longest}


async def test_inputs_are_counted_one_by_one(upstream: ScriptedUpstream) -> None:
    async with running(serving(upstream, {"context_window": 60})) as gateway:
        texts = (await count(gateway, {"model": "embedding", "input": INPUTS, "cache": {"no-cache": True}})).json
        ids = (await count(gateway, {"model": "embedding", "input": [[1, 2, 3], [4]]})).json

    (told,) = texts["deployments"]
    assert told == {
        "deployment": "up0/text-embedding-3-small",
        "encoding": "cl100k_base",
        "margin": 0.0,
        "tokens": {"inputs": [1, 73], "total": 74},
        "context_window": 60,
        "output_asked": None,
        "input_limit": 60,
        "fits": False,
        "would_drop": None,
        "policy": "none",
        "would_lower_to": None,
    }
    assert ids["deployments"][0]["tokens"] == {"inputs": [3, 1], "total": 4}
    assert upstream.requests == []


async def test_what_would_be_dropped_of_inputs_is_what_is_dropped(upstream: ScriptedUpstream) -> None:
    async with running(serving(upstream, {"context_window": 60}, embedding="end")) as gateway:
        (told,) = (await count(gateway, {"model": "embedding", "input": INPUTS})).json["deployments"]
        pooled = await count(gateway, {"model": "embedding", "input": INPUTS}, x_gateway_truncation="mean_pool")
        answer = await embed(gateway, INPUTS)

    assert (told["fits"], told["would_drop"], told["policy"]) == (False, 13, "end")
    assert answer.headers["x-gateway-truncated"] == "13"
    (told,) = pooled.json["deployments"]
    assert (told["fits"], told["would_drop"], told["policy"]) == (False, 0, "mean_pool")


async def test_the_log_and_the_metrics_tell_of_it(upstream: ScriptedUpstream) -> None:
    async with running(serving(upstream)) as gateway:
        await count(gateway, {"model": "small", "messages": TURNS, "stream": True})
        figures = await gateway.figures()

    line = gateway.lines()[0]
    assert (line["endpoint"], line["model"], line["stream"]) == ("/v1/tokens/count", "small", False)
    assert figures["gateway_requests_total", "/v1/tokens/count", "200", "small"] == 1


async def test_a_large_request_does_not_hold_up_others(upstream: ScriptedUpstream) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Many words of a long text. " * 80_000}]}
    async with running(serving(upstream)) as gateway:
        await count(gateway, {"model": "small", "messages": TURNS})  # the vocabulary is loaded
        counting = asyncio.create_task(count(gateway, body))
        waits = []
        while not counting.done():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - began)
        answer = await counting

    assert answer.json["deployments"][0]["tokens"]["total"] > 500_000
    assert sorted(waits)[len(waits) // 2] < 0.02
