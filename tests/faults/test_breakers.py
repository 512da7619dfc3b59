"""Rows F53 to F55: an upstream that grows slow, one that fails by turns, and one that is still dead when it is tried."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.support.deployments import FakeClock
from tests.support.drill import Drill, Seen
from tests.support.upstream import Answer, Behaviour, Delayed, Gate, SeenRequest, Status, resolve
from tests.support.verdicts import ask_aside, unwell

CALLS = 200
USUAL_FAILURES = 5  # until a breaker opens


def taking(seconds: float, clock: FakeClock, behaviour: Behaviour) -> Callable[[SeenRequest], Answer]:
    """Return `behaviour` so slow that the clock goes on by `seconds` before it answers."""

    def answer(request: SeenRequest) -> Answer:
        clock.advance(seconds)
        return resolve(behaviour, request)

    return answer


def coin(seed: int, behaviour: Behaviour) -> Callable[[SeenRequest], Answer]:
    """Return `behaviour` that fails every other time, by chance."""
    chance = random.Random(seed)
    return lambda request: resolve(Status(500) if chance.random() < 0.5 else behaviour, request)


@pytest.mark.fault("F53", "two seconds slower than usual")
async def test_f53_streams_leave_an_upstream_that_grew_slow_until_it_is_quick_again(pair: Drill) -> None:
    usual = pair.broken.otherwise
    for _ in range(20):
        assert (await ask_aside(pair)).by == "broken"
    pair.broken.otherwise = taking(2.0, pair.clock, usual)

    slow = [await ask_aside(pair) for _ in range(15)]
    slow.append(await pair.ask())
    pair.broken.otherwise = usual
    pair.clock.advance(6)
    healed = [await ask_aside(pair) for _ in range(5)]

    assert {seen.status for seen in (*slow, *healed)} == {200}
    by_sound = [seen.by for seen in slow].count("sound")
    assert by_sound >= 5 if pair.kind == "stream" else by_sound == 0  # plain answers take as long as they are long
    assert {seen.by for seen in healed} == {"broken"}


@pytest.mark.fault("F54", "fails every other time")
async def test_f54_with_a_sound_one_beside_it_no_caller_notices(pair: Drill) -> None:
    assert pair.sound is not None
    pair.broken.otherwise = coin(1, pair.broken.otherwise)

    seen = await call_on(pair)

    assert {each.status for each in seen} == {200}
    attempts = len(pair.broken.requests) + len(pair.sound.requests)
    assert attempts <= 1.5 * CALLS  # every second one fails once, and no call is ever sent a third time


@pytest.mark.fault("F54", "both fail every other time")
async def test_f54_when_both_flap_attempts_are_not_multiplied_and_errors_are_honest(pair: Drill) -> None:
    assert pair.sound is not None
    pair.broken.otherwise = coin(1, pair.broken.otherwise)
    pair.sound.otherwise = coin(2, pair.sound.otherwise)

    seen = await call_on(pair)

    asked = [each for each in seen if each.attempts]
    assert {each.status for each in seen} == {200, 502, 503}
    assert {each.code for each in seen if each.status == 503} == {"no_healthy_deployment"}
    attempts = len(pair.broken.requests) + len(pair.sound.requests)
    assert attempts - len(asked) <= 3 + 0.1 * CALLS  # what the budget lets through
    assert sum(each.status == 200 for each in asked) > 0.5 * len(asked)


async def call_on(it: Drill) -> list[Seen]:
    """Send one call after the other, a tenth of a second apart."""
    seen = []
    for _ in range(CALLS):
        seen.append(await ask_aside(it))
        it.clock.advance(0.1)
    for words in sorted({each.words for each in seen}):
        it.note(it.column, words)
    return seen


@pytest.mark.fault("F55", "still dead when its breaker half-opens")
async def test_f55_each_probe_that_fails_doubles_the_rest_up_to_five_minutes(alone: Drill) -> None:
    alone.broken.otherwise = Status(500)
    for _ in range(USUAL_FAILURES):
        await ask_aside(alone)
    rests: list[float] = [(await unwell(alone))["seconds"]]

    for _ in range(10):
        alone.clock.advance(rests[-1] + 0.001)  # which is rounded
        assert (await unwell(alone))["state"] == "half_open"
        seen = await alone.ask()
        assert (seen.status, seen.code, seen.attempts) == (502, "upstream_error", 1)
        rests.append((await unwell(alone))["seconds"])

    assert rests == [pytest.approx(min(300, 2.0**n), rel=0.11) for n in range(11)]
    assert max(rests) <= 300
    assert len(alone.broken.requests) == USUAL_FAILURES + 10
    figures = await alone.gateway.figures()
    assert figures[("gateway_breaker_transitions_total", "open", "up0/model")] == 11


@pytest.mark.fault("F55", "tried again while others wait")
async def test_f55_exactly_one_call_finds_out_and_all_others_are_refused(alone: Drill) -> None:
    whole, gate = alone.broken.otherwise, Gate()
    alone.broken.otherwise = Status(500)
    for _ in range(USUAL_FAILURES):
        await ask_aside(alone)
    alone.broken.otherwise = Delayed(whole, gate)
    alone.clock.advance(2)

    probe = asyncio.create_task(ask_aside(alone))
    await gate.reached()
    others = await asyncio.gather(*(alone.ask() for _ in range(10)))
    gate.open()

    assert (await probe).status == 200
    assert {(seen.status, seen.code) for seen in others} == {(503, "no_healthy_deployment")}
    assert len(alone.broken.requests) == USUAL_FAILURES + 1
    assert (await ask_aside(alone)).status == 200
    assert await unwell(alone) == {}


@pytest.mark.fault("F55", "dead again behind another deployment")
async def test_f55_with_another_no_caller_notices_the_probe(pair: Drill) -> None:
    pair.broken.otherwise = Status(500)
    for _ in range(USUAL_FAILURES):
        assert (await ask_aside(pair)).by == "sound"
    resting = await ask_aside(pair)
    pair.clock.advance(2)

    probing = await pair.ask()

    assert (resting.status, resting.attempts) == (200, 1)
    assert (probing.status, probing.attempts, probing.by) == (200, 2, "sound")
    assert len(pair.broken.requests) == USUAL_FAILURES + 1
