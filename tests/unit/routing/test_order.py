"""Each strategy puts those first that it is named for, and leaves out those that rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from gateway.errors import UpstreamRateLimited, UpstreamUnavailable
from gateway.routing import Deployment, Health, Route
from gateway.routing.order import STRATEGIES, least_busy, lowest_latency, priority, weighted
from gateway.routing.pace import LOOK_AGAIN_SECONDS, Pace
from tests.support.deployments import FakeClock, make_deployments, make_health
from tests.support.exchanges import make_call

A, B, C = make_deployments("a/1", "b/2", "c/3")
PLAIN, STREAM = make_call(), make_call(stream=True)
ROUTE = Route("small", "small", "priority", (A, B, C))


def names(order: object) -> list[str]:
    return [deployment.name for deployment in order]  # type: ignore[attr-defined]  # an iterator of deployments


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_yields_each_healthy_deployment_once(clock: FakeClock, strategy: str) -> None:
    health = make_health(clock)
    health.note_failure(B, UpstreamRateLimited("x", retry_after=2.0))

    resting = names(STRATEGIES[strategy](ROUTE, health, PLAIN))
    clock.advance(3)

    assert sorted(resting) == ["a/1", "c/3"]
    assert sorted(names(STRATEGIES[strategy](ROUTE, health, PLAIN))) == ["a/1", "b/2", "c/3"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_begins_to_rest_in_the_meantime_is_not_asked(clock: FakeClock, strategy: str) -> None:
    health = make_health(clock)
    order = STRATEGIES[strategy](ROUTE, health, PLAIN)
    first = next(order)
    others = {deployment.name: deployment for deployment in (A, B, C) if deployment is not first}
    rested = others.popitem()[1]

    health.note_failure(rested, UpstreamRateLimited("x", retry_after=2.0))

    assert names(order) == list(others)


def test_priority_keeps_the_configured_order(clock: FakeClock) -> None:
    assert names(priority(ROUTE, make_health(clock), PLAIN)) == ["a/1", "b/2", "c/3"]


def test_weights_are_the_shares_of_being_first(clock: FakeClock) -> None:
    health = Health(clock, Random(7).random)
    route = replace(ROUTE, deployments=(replace(A, weight=6), replace(B, weight=3), replace(C, weight=1)))

    first = Counter(next(weighted(route, health, PLAIN)).name for _ in range(10_000))

    assert first["a/1"] == pytest.approx(6000, abs=250)
    assert first["b/2"] == pytest.approx(3000, abs=250)


def test_the_shares_of_those_that_rest_go_to_the_others(clock: FakeClock) -> None:
    health = Health(clock, Random(7).random)
    route = replace(ROUTE, deployments=(replace(A, weight=90), replace(B, weight=3), replace(C, weight=1)))
    health.note_failure(A, UpstreamRateLimited("x", retry_after=2.0))

    first = Counter(next(weighted(route, health, PLAIN)).name for _ in range(4_000))

    assert first["b/2"] == pytest.approx(3000, abs=200)


def test_the_least_busy_for_its_weight_comes_first(clock: FakeClock) -> None:
    health = make_health(clock)
    route = replace(ROUTE, deployments=(A, replace(B, weight=4), C))
    for deployment, running in ((A, 2), (B, 4), (C, 3)):
        for _ in range(running):
            health.begin(deployment)

    assert names(least_busy(route, health, PLAIN)) == ["b/2", "a/1", "c/3"]


def test_the_fastest_of_late_comes_first_and_the_unknown_before_it(clock: FakeClock) -> None:
    health = make_health(clock)
    health.of(A).stream_pace.note(0.9, clock.now)
    health.of(B).stream_pace.note(0.2, clock.now)

    assert names(lowest_latency(ROUTE, health, STREAM)) == ["c/3", "b/2", "a/1"]
    assert names(lowest_latency(ROUTE, health, PLAIN)) == ["a/1", "b/2", "c/3"]


def test_a_slow_answer_of_long_ago_is_not_held_against_anybody_but_one_call_finds_out(clock: FakeClock) -> None:
    health = make_health(clock)
    health.of(A).stream_pace.note(0.4, clock.now)
    clock.advance(60)
    health.of(B).stream_pace.note(0.2, clock.now)
    route = replace(ROUTE, deployments=(A, B))

    first = names(lowest_latency(route, health, STREAM))
    health.begin(A)

    assert first == ["a/1", "b/2"]
    assert names(lowest_latency(route, health, STREAM)) == ["b/2", "a/1"]


def test_a_crowd_does_not_run_to_the_fastest_together(clock: FakeClock) -> None:
    health = make_health(clock)
    for deployment, seconds in ((A, 0.2), (B, 0.3), (C, 0.4)):
        health.of(deployment).stream_pace.note(seconds, clock.now)

    asked = Counter[str]()
    for _ in range(18):
        first = next(lowest_latency(ROUTE, health, STREAM))
        health.begin(first)
        asked[first.name] += 1

    assert asked == {"a/1": 8, "b/2": 6, "c/3": 4}


def test_who_fails_fast_is_not_the_fastest(clock: FakeClock) -> None:
    health = make_health(clock)
    health.of(B).stream_pace.note(9.0, clock.now)
    health.note_failure(A, UpstreamUnavailable("x"))
    route = replace(ROUTE, deployments=(A, B))

    firsts = [next(lowest_latency(route, health, STREAM)).name]
    clock.advance(31)
    firsts.append(next(lowest_latency(route, health, STREAM)).name)

    assert firsts == ["b/2", "a/1"]


def test_a_few_slow_answers_move_nobody_and_a_lasting_slowness_becomes_the_usual(clock: FakeClock) -> None:
    pace = Pace()
    for _ in range(20):
        pace.note(0.1, clock.now)
    for _ in range(7):
        pace.note(5.0, clock.now)
    after_a_few = pace.is_slow

    for _ in range(80):
        pace.note(5.0, clock.now)

    assert (after_a_few, pace.is_slow) == (False, False)


def slow_down(health: Health, deployment: Deployment, clock: FakeClock) -> None:
    for _ in range(20):
        health.of(deployment).stream_pace.note(0.1, clock.now)
    for _ in range(8):
        health.of(deployment).stream_pace.note(5.1, clock.now)


def test_who_grew_far_slower_than_it_was_comes_after_the_others_but_stays(clock: FakeClock) -> None:
    health = make_health(clock)

    slow_down(health, A, clock)

    assert names(priority(ROUTE, health, STREAM)) == ["b/2", "c/3", "a/1"]
    assert names(priority(ROUTE, health, PLAIN)) == ["a/1", "b/2", "c/3"]
    assert names(priority(replace(ROUTE, deployments=(A,)), health, STREAM)) == ["a/1"]


def test_every_few_seconds_one_call_looks_whether_it_is_fast_again(clock: FakeClock) -> None:
    health = make_health(clock)
    slow_down(health, A, clock)

    clock.advance(LOOK_AGAIN_SECONDS)
    firsts = [next(priority(ROUTE, health, STREAM)).name for _ in range(3)]
    health.of(A).stream_pace.note(0.1, clock.now)

    assert firsts == ["a/1", "b/2", "b/2"]
    assert next(priority(ROUTE, health, STREAM)).name == "a/1"


@pytest.mark.parametrize("usual", [0.05, 1.0, 20.0])
def test_ordinary_spread_is_no_slowness(usual: float) -> None:
    pace = Pace()
    dice = Random(3)

    for _ in range(2_000):
        pace.note(usual * dice.choice((0.5, 1.0, 1.0, 2.0)), 0.0)

    assert not pace.is_slow
