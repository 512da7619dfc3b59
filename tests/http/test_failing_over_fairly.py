"""What fails is held against whom it concerns: not against the other callers, a sound deployment, or who never spoke."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

import pytest

from tests.support.app import CHAT, RunningGateway, make_config, running
from tests.support.deployments import FakeClock
from tests.support.upstream import (
    Answer,
    Behaviour,
    Chat,
    ErrorEvent,
    Gate,
    Hang,
    Held,
    Reset,
    ScriptedUpstream,
    SeenRequest,
    Status,
    make_error,
    resolve,
)

POISON_KEY, HONEST_KEY = "sk-poison-0123456789abcdef", "sk-honest-0123456789abcdef"
KEYS = [
    {"name": "poison", "key": POISON_KEY, "models": ["*"]},
    {"name": "honest", "key": HONEST_KEY, "models": ["*"]},
]


def fails_if_poisoned(request: SeenRequest) -> Answer:
    return resolve(Status(500) if b"poison" in request.body else Chat("fine"), request)


@pytest.mark.parametrize("status", [500, 503])
async def test_five_failing_requests_a_second_of_one_key_turn_away_few_of_others(
    upstream: ScriptedUpstream, status: int
) -> None:
    upstream.otherwise = lambda request: resolve(Status(status) if b"poison" in request.body else Chat("fine"), request)
    clock = FakeClock()
    answered = []

    async with running(make_config(upstream, keys=KEYS), clock=clock, dice=lambda: 0.5) as gateway:
        for turn in range(600):
            await gateway.chat(key=POISON_KEY, messages=[{"role": "user", "content": "poison"}])
            if turn % 5 == 3:
                answered.append((await gateway.chat(key=HONEST_KEY)).status == 200)
            clock.advance(0.2)

    assert len(answered) == 120
    assert answered.count(False) <= 5


async def test_whoever_makes_an_upstream_fail_again_and_again_does_not_take_it_from_others(
    upstream: ScriptedUpstream,
) -> None:
    upstream.otherwise = fails_if_poisoned
    clock, chance = FakeClock(), Random(5)
    asks = sorted(
        [(600 * chance.random(), "poison") for _ in range(3000)] + [(float(at), "honest") for at in range(600)]
    )
    waited: list[float] = []

    async with running(make_config(upstream, keys=KEYS), clock=clock, dice=chance.random) as gateway:
        asked_at: float | None = None
        come_back = 0.0
        for at, who in asks:
            clock.now = 1000.0 + at
            if who == "poison":
                await gateway.chat(key=POISON_KEY, messages=[{"role": "user", "content": "poison"}])
            if asked_at is None and who == "honest":
                asked_at = come_back = at
            if asked_at is not None and at >= come_back:
                answer = await gateway.chat(key=HONEST_KEY)
                if answer.status == 200:
                    waited.append(at - asked_at)
                    asked_at = None
                else:
                    come_back = at + int(answer.headers["Retry-After-Ms"]) / 1000

    assert len(waited) > 400
    assert max(waited) < 2.0


async def test_one_that_comes_back_slowly_is_not_asked_by_a_crowd(upstream: ScriptedUpstream) -> None:
    async with ScriptedUpstream() as sound:
        upstream.otherwise, sound.otherwise = Reset(), Chat("sound")
        clock = FakeClock()
        async with running(make_config(upstream, sound), clock=clock, dice=lambda: 0.5) as gateway:
            for _ in range(5):
                await gateway.chat()
            failed = len(upstream.requests)
            upstream.otherwise = Hang()  # it is there again, and loading
            probes: list[asyncio.Task[Any]] = []
            for _ in range(60):
                clock.advance(0.05 if probes else 1.001)
                task = asyncio.create_task(gateway.chat())
                before = len(upstream.requests)
                while not task.done() and len(upstream.requests) == before:
                    await asyncio.sleep(0)
                if not task.done():
                    probes.append(task)
            for task in probes:
                task.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    assert 1 <= len(upstream.requests) - failed <= 4


@pytest.mark.parametrize("name", ["content_filter", "context_length_exceeded"])
async def test_streams_that_break_for_the_requests_own_fault_are_not_held_against_the_deployment(
    gateway: RunningGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(*[broken(name)] * 6)

    answers = [await gateway.chat(stream=True) for _ in range(6)]
    after = await gateway.chat()

    assert [json.loads(answer.events[-1])["error"]["code"] for answer in answers] == [name] * 6
    assert after.status == 200


async def test_a_rate_limit_in_the_middle_of_a_stream_makes_the_host_and_key_rest(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(broken("rate_limit_exceeded", 429))

    answer = await gateway.chat(stream=True)
    page = await gateway.ask("GET", "/readyz")

    assert json.loads(answer.events[-1])["error"]["code"] == "upstream_rate_limited"
    assert {(each["state"], each["reason"]) for each in page.json["deployments"]} == {
        ("resting", "upstream_rate_limited")
    }


def broken(code: str, status: int = 400) -> Behaviour:
    """Return a stream whose content went out before it ends in this error."""
    gate = Gate()
    gate.open()
    return ErrorEvent(3, Held(Chat(stream=True), gate, 2), make_error(status, code=code))


async def test_whose_error_the_caller_reads_is_named_by_the_header_and_the_log(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Status(400, code="context_length_exceeded")
    async with ScriptedUpstream() as larger:
        larger.otherwise = Status(500)
        config = json.loads(make_config(upstream, larger))
        config["models"] = {CHAT["model"]: {"deployments": ["up0/model"], "context_fallbacks": ["up1/model"]}}
        async with running(json.dumps(config)) as gateway:
            answer = await gateway.chat()
        (line,) = gateway.lines()

    assert answer.error["code"] == "context_length_exceeded"
    assert (answer.headers["x-gateway-deployment"], answer.headers["x-gateway-attempts"]) == ("up0/model", "2")
    assert (line["deployment"], line["attempts"]) == ("up0/model", 2)
    assert [tried["deployment"] for tried in line["tried"]] == ["up0/model", "up1/model"]


async def test_a_larger_model_that_answers_is_named(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Status(400, code="context_length_exceeded")
    async with ScriptedUpstream() as larger:
        config = json.loads(make_config(upstream, larger))
        config["models"] = {CHAT["model"]: {"deployments": ["up0/model"], "context_fallbacks": ["up1/model"]}}
        async with running(json.dumps(config)) as gateway:
            answer = await gateway.chat()

    assert (answer.status, answer.headers["x-gateway-deployment"]) == (200, "up1/model")


async def test_figures_show_the_rests_of_host_and_key_and_count_each_refused_key(upstream: ScriptedUpstream) -> None:
    clock = FakeClock()
    config = json.loads(make_config(upstream))
    config["models"] = {alias: {"deployments": [f"up0/{alias}"]} for alias in ("one", "two")}
    async with running(json.dumps(config), clock=clock, dice=lambda: 0.5) as gateway:
        await gateway.chat(model="two")
        upstream.otherwise = Status(401)
        for _ in range(3):
            await gateway.chat(model="one")
            clock.advance(301)
        await gateway.chat(model="one")
        async with asyncio.timeout(10):
            while (figures := await gateway.figures()).get(state_of("two"), 0) != 3:
                await asyncio.sleep(0.05)

    assert figures[state_of("one")] == figures[state_of("two")] == 3
    assert figures["gateway_key_disabled_total", "up0/one"] == 4


def state_of(model: str) -> tuple[str, ...]:
    return "gateway_deployment_state", "chat/completions", f"up0/{model}"
