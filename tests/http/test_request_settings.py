"""Styles, settings and limits on their way from the caller's words to what the upstream is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.app import CHAT, Answer, RunningGateway, running
from tests.support.upstream import Chat, Gate, Held, ScriptedUpstream, Status

SETTINGS = {"temperature": 0.6, "frequency_penalty": 0.1, "top_p": 0.9, "stop": []}
OWN = {"model", "messages", "stream", "stream_options"}


@asynccontextmanager
async def serving(upstream: ScriptedUpstream, **deployment: Any) -> AsyncIterator[RunningGateway]:
    """Serve `small` by one deployment of a provider with settings and facts."""
    provider = {
        "kind": "openai",
        "base_url": upstream.base_url,
        "settings": SETTINGS,
        "token_field": "max_completion_tokens",
        "models": {"m": {"max_output_tokens": 50, "refuses": ["top_p"]}},
    }
    route = {"deployments": [{"provider": "up", "model": "m", **deployment}]}
    async with running(json.dumps({"providers": {"up": provider}, "models": {"small": route}})) as gateway:
        yield gateway


async def ask(gateway: RunningGateway, body: dict[str, Any], **headers: str) -> Answer:
    return await gateway.ask(
        "POST",
        "/v1/chat/completions",
        data=json.dumps({**CHAT, **body}).encode(),
        headers={"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
    )


def last(upstream: ScriptedUpstream) -> dict[str, Any]:
    """Return the fields of the last request besides those that every request has."""
    return {name: value for name, value in upstream.requests[-1].json.items() if name not in OWN}


@pytest.mark.parametrize("stream", [False, True])
async def test_settings_of_provider_deployment_style_and_caller_are_laid_over_each_other(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    async with serving(upstream, settings={"temperature": 0.4, "seed": 3}) as gateway:
        plain = await ask(gateway, {"stream": stream})
        assert last(upstream) == {"temperature": 0.4, "frequency_penalty": 0.1, "seed": 3}

        await ask(gateway, {"stream": stream, "frequency_penalty": 1}, x_gateway_style="creative")
        assert last(upstream) == {"temperature": 0.8, "frequency_penalty": 1, "presence_penalty": 0.7, "seed": 3}

    assert plain.status == 200


async def test_a_name_that_ends_in_a_style_asks_for_the_model_before_it(upstream: ScriptedUpstream) -> None:
    async with serving(upstream) as gateway:
        by_alias = await ask(gateway, {"model": "small:precise"}, x_gateway_style="creative")
        assert last(upstream)["temperature"] == 0.2

        by_provider = await ask(gateway, {"model": "up/other:creative"})
        assert last(upstream)["temperature"] == 0.8

    assert (by_alias.status, by_provider.status) == (200, 200)
    assert [request.json["model"] for request in upstream.requests] == ["m", "other"]


async def test_a_style_that_does_not_exist_is_refused_before_anyone_is_asked(upstream: ScriptedUpstream) -> None:
    async with serving(upstream) as gateway:
        answer = await ask(gateway, {}, x_gateway_style="wild")

    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == ("x-gateway-style", "invalid_value")
    assert upstream.requests == []


async def test_the_longest_answer_is_translated_and_cut(upstream: ScriptedUpstream) -> None:
    async with serving(upstream) as gateway:
        await ask(gateway, {"max_tokens": 4000})

    assert last(upstream)["max_completion_tokens"] == 50
    assert "max_tokens" not in last(upstream)


async def test_a_setting_that_the_upstream_refuses_is_left_out_from_then_on(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, code="unsupported_value", param="temperature", message="Only the default (1)."))

    async with serving(upstream) as gateway:
        healed = await ask(gateway, {})
        later = await ask(gateway, {})

    assert (healed.status, later.status) == (200, 200)
    assert (healed.headers["x-gateway-attempts"], later.headers["x-gateway-attempts"]) == ("2", "1")
    assert ["temperature" in request.json for request in upstream.requests] == [True, False, False]


async def test_after_a_healed_setting_a_failure_may_still_be_retried_by_the_client(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, code="unsupported_parameter", param="temperature"), Status(500), Status(500))
    async with serving(upstream, settings={"temperature": 0.3}) as gateway:
        healed = await ask(gateway, {})

    assert (healed.status, healed.headers["x-gateway-attempts"]) == (502, "2")
    assert "x-should-retry" not in healed.headers


async def test_a_setting_that_a_stream_is_refused_for_is_healed_as_well(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, code="unsupported_parameter", param="temperature"), Chat("fine"))

    async with serving(upstream) as gateway:
        answer = await ask(gateway, {"stream": True})

    assert answer.status == 200
    assert answer.events[-1] == "[DONE]"


async def test_several_refused_settings_are_left_out_one_by_one(upstream: ScriptedUpstream) -> None:
    upstream.script(
        Status(400, code="unsupported_parameter", param="temperature"),
        Status(400, code="unsupported_parameter", param="frequency_penalty"),
    )

    async with serving(upstream) as gateway:
        answer = await ask(gateway, {"frequency_penalty": None})
        later = await ask(gateway, {})

    assert (answer.status, later.status) == (200, 200)
    assert (answer.headers["x-gateway-attempts"], later.headers["x-gateway-attempts"]) == ("3", "1")
    assert last(upstream) == {}


async def test_both_words_for_the_longest_answer_are_tried_by_calls_at_the_same_time(
    upstream: ScriptedUpstream,
) -> None:
    refusal = Status(400, code="unsupported_parameter", param="max_tokens")
    gate = Gate()
    upstream.script(Held(refusal, gate), Held(refusal, gate))
    plain = {"kind": "openai", "base_url": upstream.base_url}

    async with running(json.dumps({"providers": {"up": plain}})) as gateway:
        asking = [asyncio.create_task(ask(gateway, {"model": "up/m", "max_tokens": 5})) for _ in range(2)]
        await gate.reached(2)
        gate.open()
        answers = await asyncio.gather(*asking)

    assert [answer.status for answer in answers] == [200, 200]


@pytest.mark.parametrize("code", ["unsupported_value", "unknown_parameter"])
async def test_a_callers_bad_value_or_invented_field_is_left_out_of_its_own_call_only(
    upstream: ScriptedUpstream, code: str
) -> None:
    upstream.script(Status(400, code=code, param="seed"))

    async with serving(upstream, drop_params=True) as gateway:
        dropped = await ask(gateway, {"seed": 1})
        kept = await ask(gateway, {"seed": 2})

    assert dropped.headers["x-gateway-dropped-params"] == "seed"
    assert "x-gateway-dropped-params" not in kept.headers
    assert last(upstream)["seed"] == 2


async def test_what_one_deployment_dropped_is_not_told_when_another_answers(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(500))
    plain = {"kind": "openai", "base_url": upstream.base_url, "models": {"a": {"refuses": ["seed"]}}}
    route = {"deployments": [{"provider": "up", "model": "a", "drop_params": True}, "up/b"]}

    async with running(json.dumps({"providers": {"up": plain}, "models": {"small": route}})) as gateway:
        answer = await ask(gateway, {"seed": 1})

    assert answer.headers["x-gateway-deployment"] == "up/b"
    assert "x-gateway-dropped-params" not in answer.headers
    assert ["seed" in request.json for request in upstream.requests] == [False, True]


@pytest.mark.parametrize("value", ["abc", [], {}, True, 1.5])
async def test_a_longest_answer_that_is_no_number_is_refused_for_completions_too(
    upstream: ScriptedUpstream, value: Any
) -> None:
    async with serving(upstream) as gateway:
        answer = await gateway.post("completions", {"model": "small", "prompt": "a", "max_completion_tokens": value})

    assert answer.status == 400
    assert answer.error["param"] == "max_completion_tokens"


async def test_what_the_caller_sent_is_refused_to_the_caller(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, code="unsupported_parameter", param="temperature", message="No temperature."))

    async with serving(upstream) as gateway:
        answer = await ask(gateway, {"temperature": 1})

    assert answer.status == 400
    assert answer.error == {
        "message": "No temperature.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "unsupported_parameter",
    }
    assert len(upstream.requests) == 1


async def test_a_deployment_that_drops_params_tells_which(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, code="unsupported_parameter", param="logit_bias"))

    async with serving(upstream, drop_params=True) as gateway:
        answer = await ask(gateway, {"top_p": 0.5, "logit_bias": {"1": 1}, "user": "me"})
        stream = await ask(gateway, {"stream": True, "logit_bias": {"1": 1}})
        untouched = await ask(gateway, {"seed": 4})

    assert answer.status == 200
    assert answer.headers["x-gateway-dropped-params"] == "top_p, logit_bias"
    assert stream.headers["x-gateway-dropped-params"] == "logit_bias"
    assert "x-gateway-dropped-params" not in untouched.headers
    assert upstream.requests[1].json["user"] == "me"


REFUSED = "stream_options"
REFUSALS = {
    "named": Status(400, code="unsupported_parameter", param=REFUSED),
    "within it": Status(400, code="unknown_parameter", param=f"{REFUSED}.include_usage"),
    "in a sentence": Status(400, message=f"Unrecognized request argument supplied: {REFUSED}"),
    "in a list": Status(422, body={"detail": [{"type": "extra_forbidden", "loc": ["body", REFUSED]}]}),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_model_that_does_not_tell_usage_in_streams_is_asked_without(
    upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(REFUSALS[name])

    async with serving(upstream) as gateway:
        healed = await ask(gateway, {"stream": True})
        known = await ask(gateway, {"stream": True})
        other = await ask(gateway, {"stream": True, "model": "up/other"})

    assert [answer.events[-1] for answer in (healed, known, other)] == ["[DONE]"] * 3
    assert healed.headers["x-gateway-attempts"] == "1"
    assert [REFUSED in request.json for request in upstream.requests] == [True, False, False, True]


async def test_a_refusal_of_something_else_that_quotes_the_field_teaches_nothing(upstream: ScriptedUpstream) -> None:
    quoting = Status(400, message=f"'{REFUSED}' is no role.")
    upstream.script(quoting, quoting)

    async with serving(upstream) as gateway:
        refused = await ask(gateway, {"stream": True})
        await ask(gateway, {"stream": True})

    assert refused.status == 400
    assert [REFUSED in request.json for request in upstream.requests] == [True, False, True]


@pytest.mark.parametrize("sent", [{"include_usage": True}, {"include_obfuscation": False}])
async def test_stream_options_of_the_callers_own_are_refused_to_the_caller(
    upstream: ScriptedUpstream, sent: dict[str, bool]
) -> None:
    upstream.script(REFUSALS["named"])

    async with serving(upstream) as gateway:
        answer = await ask(gateway, {"stream": True, "stream_options": sent})

    assert (answer.status, answer.error["param"]) == (400, REFUSED)
    assert len(upstream.requests) == 1


async def test_settings_of_text_do_not_reach_embeddings(upstream: ScriptedUpstream) -> None:
    async with serving(upstream) as gateway:
        await gateway.post("embeddings", {"model": "small", "input": "a"})

    assert set(upstream.requests[0].json) == {"model", "input", "encoding_format"}
