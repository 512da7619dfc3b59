"""Settings and fields on wires that are not OpenAI's: what is refused there is healed, dropped by name or told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.app import RunningGateway, running
from tests.support.upstream import ScriptedUpstream
from tests.support.wires import TEXT, UPSTREAM_KEY, Anthropic, Failure, Gemini, Scene, Wire, WireUpstream

ENTRIES: Mapping[str, str] = {"anthropic": "anthropic", "gemini": "google"}
WIRES: Mapping[str, type[Wire]] = {"anthropic": Anthropic, "gemini": Gemini}
MODELS: Mapping[str, str] = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}


@asynccontextmanager
async def serving(name: str, **deployment: Any) -> AsyncIterator[tuple[RunningGateway, WireUpstream]]:
    """Serve `small` by one deployment over the preset of a wire."""
    entry = ENTRIES[name]
    async with WireUpstream(WIRES[name]()) as upstream:
        provider = {"base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        route = {"deployments": [{"provider": entry, "model": MODELS[name], **deployment}]}
        async with running(json.dumps({"providers": {entry: provider}, "models": {"small": route}})) as gateway:
            yield gateway, upstream


def refusing(sentence: str) -> Scene:
    return Scene("refused", failure=Failure("bad request", sentence))


def sampling(upstream: WireUpstream) -> list[dict[str, Any]]:
    """Return the settings of each request so far, in the wire's own words."""
    plain = [
        request.json.get("generationConfig", {} if "contents" in request.json else request.json)
        for request in upstream.requests
    ]
    own = {"max_tokens", "messages", "model", "stream", "system"}
    return [{name: value for name, value in fields.items() if name not in own} for fields in plain]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_temperature_that_claude_refuses_is_left_out_from_then_on(stream: bool) -> None:
    async with serving("anthropic") as (gateway, upstream):
        upstream.play(refusing("temperature: `temperature` is deprecated for this model."), TEXT, TEXT)

        healed = await gateway.chat(stream=stream)
        later = await gateway.chat(stream=stream)

    assert (healed.status, later.status) == (200, 200)
    assert (healed.headers["x-gateway-attempts"], later.headers["x-gateway-attempts"]) == ("2", "1")
    assert sampling(upstream) == [{"temperature": 0.3}, {}, {}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_temperature_of_ours_yields_to_the_callers_top_p_only(stream: bool) -> None:
    async with serving("anthropic") as (gateway, upstream):
        upstream.play(refusing("`temperature` and `top_p` cannot both be specified for this model. Use one."))

        healed = await gateway.chat(stream=stream, top_p=0.9)
        await gateway.chat(stream=stream, top_p=0.8)
        await gateway.chat(stream=stream)

    assert healed.status == 200
    assert sampling(upstream)[1:] == [{"top_p": 0.9}, {"top_p": 0.8}, {"temperature": 0.3}]


async def test_a_temperature_of_ours_yields_to_thinking_only() -> None:
    async with serving("anthropic") as (gateway, upstream):
        upstream.play(refusing("`temperature` may only be set to 1 when thinking is enabled. Please consult our docs."))

        healed = await gateway.chat(reasoning_effort="low")
        await gateway.chat(reasoning_effort="low")
        await gateway.chat()

    assert healed.status == 200
    assert ["temperature" in fields for fields in sampling(upstream)] == [True, False, False, True]


@pytest.mark.parametrize("stream", [False, True])
async def test_penalties_of_a_style_that_gemini_refuses_are_left_out_together(stream: bool) -> None:
    settings = {"presence_penalty": 0.1, "frequency_penalty": 0.1}
    async with serving("gemini", model="gemini-2.9-unlisted", settings=settings) as (gateway, upstream):
        upstream.play(refusing("Penalty is not enabled for models/gemini-2.5-flash"))

        healed = await gateway.chat(stream=stream)
        later = await gateway.chat(stream=stream, model="small:creative")

    assert (healed.headers["x-gateway-attempts"], later.headers["x-gateway-attempts"]) == ("2", "1")
    assert sampling(upstream)[1:] == [{}, {"temperature": 0.8}]


REFUSED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "gemini penalty": ("gemini", {"presence_penalty": 1}, "Penalty is not enabled for this model", "presence_penalty"),
    "gemini candidates": ("gemini", {"n": 2}, "Multiple candidates is not enabled for this model", "n"),
    "claude temperature": (
        "anthropic",
        {"temperature": 1, "top_p": None},
        "temperature: `temperature` is deprecated for this model.",
        "temperature",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_caller_sent_is_refused_to_the_caller_by_its_name(name: str, stream: bool) -> None:
    wire, fields, sentence, param = REFUSED[name]
    async with serving(wire) as (gateway, upstream):
        upstream.play(refusing(sentence))

        answer = await gateway.chat(**fields, stream=stream)

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("unsupported_parameter", param)
    assert answer.error["message"] == sentence
    assert len(upstream.requests) == 1


NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
LACKING: dict[str, tuple[str, dict[str, Any]]] = {
    "claude seed": ("anthropic", {"seed": 1}),
    "claude n": ("anthropic", {"n": 2}),
    "claude logit_bias": ("anthropic", {"logit_bias": {"5": 1}}),
    "claude logprobs": ("anthropic", {"logprobs": True}),
    "claude penalty": ("anthropic", {"presence_penalty": 0.5}),
    "claude prediction": ("anthropic", {"prediction": {"type": "content", "content": "x"}}),
    "claude store": ("anthropic", {"store": True}),
    "gemini logit_bias": ("gemini", {"logit_bias": {"5": 1}}),
    "gemini parallel_tool_calls": ("gemini", {"parallel_tool_calls": False, "tools": [NOW]}),
    "gemini prediction": ("gemini", {"prediction": {"type": "content", "content": "x"}}),
    "gemini verbosity": ("gemini", {"verbosity": "low"}),
    "gemini store": ("gemini", {"store": True}),
}


@pytest.mark.parametrize("name", LACKING)
async def test_a_field_that_a_wire_has_no_words_for_is_refused_before_asking(name: str) -> None:
    wire, fields = LACKING[name]
    async with serving(wire) as (gateway, upstream):
        answer = await gateway.chat(**fields)

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("unsupported_parameter", next(iter(fields)))
    assert upstream.requests == []


@pytest.mark.parametrize("name", LACKING)
async def test_a_field_that_a_wire_has_no_words_for_is_dropped_by_name(name: str) -> None:
    wire, fields = LACKING[name]
    async with serving(wire, drop_params=True) as (gateway, upstream):
        first = await gateway.chat(**fields)
        second = await gateway.chat(**fields, stream=True)

    assert (first.status, second.status) == (200, 200)
    assert first.headers["x-gateway-dropped-params"] == next(iter(fields))
    assert second.headers["x-gateway-dropped-params"] == next(iter(fields))
    assert second.headers["x-gateway-attempts"] == "1"
    assert upstream.mistakes == []


async def test_all_fields_that_a_wire_has_no_words_for_are_dropped_at_once() -> None:
    fields = {"seed": 1, "n": 2, "logit_bias": {"5": 1}, "logprobs": True, "top_logprobs": 2, "presence_penalty": 0.5}
    async with serving("anthropic", drop_params=True) as (gateway, upstream):
        answer = await gateway.chat(**fields)

    assert answer.status == 200
    assert sorted(answer.headers["x-gateway-dropped-params"].split(", ")) == sorted(fields)
    assert len(upstream.requests) == 1


HARMLESS: dict[str, Any] = {
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "metadata": {"a": "b"},
    "n": 1,
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "prompt_cache_key": "a",
    "prompt_cache_retention": "24h",
    "safety_identifier": "a",
    "store": False,
    "user": "a",
    "verbosity": "medium",
}


@pytest.mark.parametrize("wire", ENTRIES)
async def test_hints_and_fields_that_say_what_goes_without_saying_are_left_out(wire: str) -> None:
    async with serving(wire) as (gateway, upstream):
        answer = await gateway.chat(**HARMLESS, temperature=0.5)

    assert answer.status == 200
    left = {"temperature", "frequency_penalty", "presence_penalty"} if wire == "gemini" else {"temperature"}
    assert sampling(upstream)[0].keys() <= left


async def test_json_without_a_schema_is_refused_where_no_model_can_be_held_to_it() -> None:
    async with serving("anthropic", drop_params=True) as (gateway, upstream):
        answer = await gateway.chat(response_format={"type": "json_object"})

    assert answer.status == 400
    assert answer.error["param"] == "response_format"
    assert "json_schema" in answer.error["message"]
    assert upstream.requests == []


@pytest.mark.parametrize(("path", "body"), [("completions", {"prompt": "Hi"}), ("embeddings", {"input": "Hi"})])
async def test_an_endpoint_that_a_model_does_not_serve_is_told_as_such_and_fails_over(
    path: str, body: dict[str, Any]
) -> None:
    async with WireUpstream(Anthropic()) as upstream:
        providers = {"anthropic": {"base_url": upstream.base_url, "api_key": UPSTREAM_KEY}}
        async with running(json.dumps({"providers": providers})) as gateway:
            answers = [await gateway.post(path, {"model": "anthropic/small", **body}) for _ in range(6)]
            chat = await gateway.chat(model="anthropic/small")

    assert {answer.status for answer in answers} == {404}
    assert (answers[-1].error["code"], answers[-1].error["param"]) == ("endpoint_not_supported", "model")
    assert answers[-1].error["type"] == "invalid_request_error"
    assert chat.status == 200


async def test_a_deployment_that_serves_the_endpoint_is_asked_after_one_that_does_not(
    upstream: ScriptedUpstream,
) -> None:
    async with WireUpstream(Anthropic()) as claude:
        providers = {
            "anthropic": {"base_url": claude.base_url, "api_key": UPSTREAM_KEY},
            "up": {"kind": "openai", "base_url": upstream.base_url},
        }
        route = {"deployments": ["anthropic/claude-sonnet-4-5", "up/m"]}
        async with running(json.dumps({"providers": providers, "models": {"small": route}})) as gateway:
            answer = await gateway.post("completions", {"model": "small", "prompt": "Hi"})

    assert answer.status == 200
    assert answer.headers["x-gateway-deployment"] == "up/m"
    assert claude.requests == []


async def test_penalties_of_a_style_are_not_sent_to_a_gemini_that_is_known_to_refuse_them() -> None:
    async with serving("gemini") as (gateway, upstream):
        answer = await gateway.chat(model="small:creative")

    assert answer.headers["x-gateway-attempts"] == "1"
    assert sampling(upstream) == [{"temperature": 0.8}]
