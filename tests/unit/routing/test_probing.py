"""Who finds out whether a deployment is well again, how many at once, and what each of them may cost the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import GatewayError, UpstreamAuthFailed, UpstreamRateLimited, UpstreamTimeout, UpstreamUnavailable
from gateway.routing import Deployment, Health
from tests.support.deployments import FakeClock, make_deployments, make_health

(LAB,) = make_deployments("lab/tiny")
DOWN = UpstreamUnavailable("x")
HUNG = UpstreamTimeout("x")


def fail(health: Health, caller: str, times: int = 1, error: GatewayError = DOWN) -> None:
    """Let calls of `caller` fail at once, each begun and over."""
    for _ in range(times):
        began = health.clock()
        condition, probed = health.begin(LAB)
        condition.end(probed=probed)
        health.note_failure(LAB, error, began, caller)


def rest_seconds(health: Health) -> float:
    return health.wait_seconds(LAB)


def test_calls_that_each_hang_for_a_minute_fail_in_a_row(clock: FakeClock) -> None:
    health = make_health(clock)

    for _ in range(5):
        began = clock.now
        condition, probed = health.begin(LAB)
        clock.advance(60.0)
        condition.end(probed=probed)
        health.note_failure(LAB, HUNG, began)

    assert not health.may_ask(LAB)


def test_failures_half_a_minute_apart_are_still_forgotten(clock: FakeClock) -> None:
    health = make_health(clock)

    for _ in range(30):
        clock.advance(31.0)
        began = clock.now
        clock.advance(60.0)
        health.note_failure(LAB, HUNG, began)

    assert health.may_ask(LAB)


@pytest.mark.parametrize(("failed_within", "hung"), [(0.001, 5), (0.5, 3), (60.0, 1)])
def test_who_fails_to_come_back_is_never_asked_by_a_crowd(clock: FakeClock, failed_within: float, hung: int) -> None:
    health = make_health(clock)
    for _ in range(5):
        health.note_failure(LAB, DOWN, clock.now - failed_within)
    clock.advance(1.0)
    asked = 0

    for _ in range(1000):  # a hundred calls a second for just under ten seconds
        if health.may_ask(LAB):
            health.begin(LAB)
            asked += 1
        clock.advance(0.0099)

    assert asked == hung


def test_a_probe_that_comes_back_well_lets_everybody_in_however_many_still_wait(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, "", 5)
    clock.advance(1.0)
    for _ in range(2):
        began = clock.now
        health.begin(LAB)
        clock.advance(0.6)

    health.note_success(LAB, began)

    assert [health.may_ask(LAB) for _ in range(3)] == [True] * 3


def test_of_probes_that_hang_together_only_the_first_to_fail_makes_the_rest_longer(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, "", 5)
    clock.advance(1.0)
    began = []
    for _ in range(3):
        began.append(clock.now)
        health.begin(LAB)
        clock.advance(4.0)

    waits = []
    for moment in began:
        health.note_failure(LAB, HUNG, moment)
        waits.append(rest_seconds(health))
        clock.advance(1.5)

    assert waits == pytest.approx([2.0, 0.5, 0.0])


def test_after_it_opened_again_one_call_finds_out_though_others_still_hang(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, "", 5)
    clock.advance(1.0)
    first = clock.now
    for _ in range(3):
        health.begin(LAB)
        clock.advance(4.0)
    health.note_failure(LAB, HUNG, first)

    clock.advance(2.0)

    assert health.may_ask(LAB)
    health.begin(LAB)
    assert not health.may_ask(LAB)


def test_whose_calls_fail_leaves_it_to_others_to_find_out_for_as_long_again(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, "poison", 5)
    health.may_ask(LAB, "honest")

    clock.advance(1.0)
    waits = health.wait_seconds(LAB, "poison"), health.wait_seconds(LAB, "honest")
    at_first = health.may_ask(LAB, "poison"), health.may_ask(LAB, "honest")
    clock.advance(1.0)

    assert waits == pytest.approx((1.0, 0.0))
    assert at_first == (False, True)
    assert health.may_ask(LAB, "poison")


def test_a_caller_that_is_alone_finds_out_itself(clock: FakeClock) -> None:
    health = make_health(clock)
    assert health.may_ask(LAB, "honest")
    fail(health, "poison", 4)
    health.may_ask(LAB, "honest")
    fail(health, "poison")

    clock.advance(61.0)

    assert health.may_ask(LAB, "poison")


def test_who_never_saw_another_rests_as_always(clock: FakeClock) -> None:
    health = make_health(clock)
    waits = []

    for turn in range(4):
        assert health.may_ask(LAB, "only")
        fail(health, "only", 1 if turn else 5)
        waits.append(rest_seconds(health))
        clock.advance(waits[-1])

    assert waits == pytest.approx([1, 2, 4, 8])


def test_who_fails_again_while_others_are_answered_does_not_make_the_rest_longer_but_another_that_fails_too_does(
    clock: FakeClock,
) -> None:
    health = make_health(clock)
    fail(health, "poison", 5)
    waits = []

    for who in ("poison", "poison", "honest", "poison"):
        health.of(LAB).note_well("honest", clock.now)
        clock.advance(2 * rest_seconds(health))
        assert health.may_ask(LAB, who)
        fail(health, who)
        waits.append(rest_seconds(health))

    assert waits == pytest.approx([1, 1, 2, 4])


def test_that_somebody_else_asks_in_an_outage_does_not_shorten_its_rests(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, "only", 5)
    waits = []

    for _ in range(4):
        assert not health.may_ask(LAB, "other")  # turned away, and never answered
        clock.advance(rest_seconds(health) + 2.0)
        assert health.may_ask(LAB, "only")
        fail(health, "only")
        waits.append(rest_seconds(health))

    assert waits == pytest.approx([2, 4, 8, 16])


def test_others_come_first_for_two_seconds_at_most(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, "only", 5)
    for _ in range(4):
        clock.advance(rest_seconds(health))
        fail(health, "only")
    health.may_ask(LAB, "other")

    clock.advance(rest_seconds(health))

    assert health.wait_seconds(LAB, "only") == pytest.approx(2.0)


def test_who_opened_it_before_is_shut_out_alone_when_others_are_answered(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, "poison", 5)
    clock.advance(1.0)
    health.note_success(LAB)
    shut = []

    for _ in range(3):
        health.of(LAB).note_well("honest", clock.now)
        fail(health, "poison", 5)
        shut.append(health.wait_seconds(LAB, "poison"))
        assert health.may_ask(LAB, "honest")
        assert not health.may_ask(LAB, "poison")
        clock.advance(shut[-1])
        assert health.may_ask(LAB, "poison")

    assert shut == pytest.approx([1, 2, 4])


@pytest.mark.parametrize(("alone", "asked"), [(True, 19), (False, 4)])
def test_where_there_is_nobody_else_all_may_ask_who_comes_back_slowly(
    clock: FakeClock, *, alone: bool, asked: int
) -> None:
    health = make_health(clock)
    fail(health, "", 5)
    clock.advance(1.0)

    let_in = 0
    for _ in range(20):  # four calls a second
        if health.may_ask(LAB, alone=alone):
            health.begin(LAB)
            let_in += 1
        clock.advance(0.25)

    assert let_in == asked


def test_the_rest_of_a_host_and_key_is_shown_of_all_that_share_it(clock: FakeClock) -> None:
    health = make_health(clock)
    first, sister = sisters()
    health.of(sister)

    health.note_failure(first, UpstreamRateLimited("x", retry_after=60.0))

    assert dict(health.states()) == {"lab/one": "resting", "lab/two": "resting"}


def test_each_rest_is_told_though_nobody_saw_the_one_before_end(clock: FakeClock) -> None:
    told: list[tuple[str, ...]] = []
    health = Health(clock, lambda: 0.5, None, lambda *change: told.append(change))

    for _ in range(4):
        for _ in range(3):  # calls that were on their way together
            health.note_failure(LAB, UpstreamAuthFailed("x", upstream_status=401))
        clock.advance(301)

    assert told == [("lab/tiny", "closed", "resting", "upstream_auth_failed")] * 4


def sisters() -> tuple[Deployment, Deployment]:
    one, two = make_deployments("lab/one", "lab/two")
    return replace(one, account="host and key"), replace(two, account="host and key")
