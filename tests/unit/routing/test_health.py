"""Who failed or asked to be left alone is left alone for that long, and found out about when it is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import (
    REQUEST_EXCEEDS_RATE_LIMIT,
    ContextLengthExceeded,
    EndpointNotServed,
    GatewayError,
    LocalModelUnavailable,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from gateway.routing import FailoverSettings, Health, Healths, State
from gateway.routing.health import AUTH_REST_SECONDS, MISSING_REST_SECONDS, QUOTA_REST_SECONDS
from tests.support.deployments import FakeClock, make_deployments, make_health

LAB, OTHER = make_deployments("lab/tiny", "other/tiny")
DOWN = UpstreamUnavailable("x")


def fail(health: Health, times: int, error: GatewayError = DOWN) -> None:
    """Let the lab fail that often, each time as a call that was begun and is over."""
    for _ in range(times):
        _, probed = health.begin(LAB)
        health.of(LAB).end(probed=probed)
        health.note_failure(LAB, error)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (UpstreamRateLimited("x", retry_after=2.5), 2.5),
        (UpstreamRateLimited("x"), 1.0),
        (UpstreamRateLimited("x", code="insufficient_quota", retry_after=2.0), QUOTA_REST_SECONDS),
        (UpstreamAuthFailed("x"), AUTH_REST_SECONDS),
        (UpstreamModelMissing("x"), MISSING_REST_SECONDS),
        (UpstreamOverloaded("x", retry_after=3.0), 3.0),
        (UpstreamUnavailable("x"), 0.0),
        (UpstreamTimeout("x"), 0.0),
        (UpstreamProtocolError("x"), 0.0),
        (UpstreamOverloaded("x"), 1.0),
        (UpstreamRejected("x"), 0.0),
        (ContextLengthExceeded("x"), 0.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_failure_makes_a_deployment_rest_as_long_as_its_kind_says(
    clock: FakeClock, error: UpstreamError, seconds: float
) -> None:
    health = make_health(clock)

    health.note_failure(LAB, error)

    assert health.wait_seconds(LAB) == pytest.approx(seconds)
    assert health.may_ask(LAB) == (seconds == 0.0)
    assert health.wait_seconds(OTHER) == 0.0


def test_a_rest_ends_by_the_clock(clock: FakeClock) -> None:
    health = make_health(clock)
    health.note_failure(LAB, UpstreamRateLimited("x", retry_after=2.0))

    clock.advance(1.5)
    almost = health.wait_seconds(LAB)
    clock.advance(0.5)

    assert almost == pytest.approx(0.5)
    assert health.may_ask(LAB)


def test_a_shorter_rest_does_not_cut_a_longer_one_and_a_longer_one_counts(clock: FakeClock) -> None:
    health = make_health(clock)

    waits = []
    for seconds in (9.0, 1.0, 20.0):
        health.note_failure(LAB, UpstreamRateLimited("x", retry_after=seconds))
        waits.append(health.wait_seconds(LAB))

    assert waits == pytest.approx([9.0, 9.0, 20.0])


def test_an_answer_that_was_on_its_way_does_not_end_a_rest_that_was_asked_for(clock: FakeClock) -> None:
    health = make_health(clock)
    health.note_failure(LAB, UpstreamRateLimited("x", retry_after=9.0))

    health.note_success(LAB)

    assert health.wait_seconds(LAB) == pytest.approx(9.0)


def test_rate_limits_that_state_no_time_double_up_to_half_a_minute_until_an_answer(clock: FakeClock) -> None:
    health = make_health(clock)
    waits = []

    for _ in range(7):
        health.note_failure(LAB, UpstreamRateLimited("x"))
        waits.append(health.wait_seconds(LAB))
        clock.advance(waits[-1])
    health.note_success(LAB)
    health.note_failure(LAB, UpstreamRateLimited("x"))

    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    assert health.wait_seconds(LAB) == pytest.approx(1)


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_rests_are_spread_by_a_tenth(clock: FakeClock, dice: float, seconds: float) -> None:
    health = make_health(clock, dice=dice)

    health.note_failure(LAB, UpstreamRateLimited("x"))

    assert health.wait_seconds(LAB) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("error", "shares"),
    [
        (UpstreamRateLimited("x", retry_after=5.0), True),
        (UpstreamAuthFailed("x", upstream_status=401), True),
        (UpstreamModelMissing("x"), False),
        (UpstreamOverloaded("x", retry_after=5.0), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_deployments_that_share_host_and_key_rest_together(
    clock: FakeClock, error: UpstreamError, shares: bool
) -> None:
    health = make_health(clock)
    lab, sister = replace(LAB, account="host and key"), replace(OTHER, account="host and key")

    health.note_failure(lab, error)

    assert health.may_ask(sister) is not shares
    clock.advance(600)
    assert health.may_ask(sister)


def test_failures_in_a_row_open_the_breaker_and_one_call_at_a_time_finds_out(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, 4)
    still = health.may_ask(LAB)

    fail(health, 1)

    assert still
    assert not health.may_ask(LAB)
    clock.advance(1.0)
    assert health.may_ask(LAB)
    assert health.begin(LAB)[1]
    assert not health.may_ask(LAB)
    health.of(LAB).end(probed=True)
    health.note_success(LAB)
    assert health.may_ask(LAB)
    assert list(health.report()) == []


def test_a_probe_whose_caller_left_makes_room_for_another(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, 5)
    clock.advance(1.0)
    _, probed = health.begin(LAB)

    health.of(LAB).end(probed=probed)

    assert health.may_ask(LAB)
    assert [unwell["state"] for unwell in health.report()] == ["half_open"]


def test_each_probe_that_fails_doubles_the_rest_up_to_five_minutes(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, 5)
    waits = [health.wait_seconds(LAB)]

    for _ in range(10):
        clock.advance(waits[-1])
        fail(health, 1)
        waits.append(health.wait_seconds(LAB))

    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300])


def test_calls_that_were_on_their_way_when_it_opened_do_not_prolong_the_rest(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, 5)
    clock.advance(0.5)

    for _ in range(20):
        health.note_failure(LAB, DOWN)

    assert health.wait_seconds(LAB) == pytest.approx(0.5)


def test_half_of_the_last_twenty_open_the_breaker_too(clock: FakeClock) -> None:
    health = make_health(clock)
    opened_after = 0

    for number in range(1, 40):
        fail(health, 1) if number % 2 else health.note_success(LAB)
        if not health.may_ask(LAB):
            opened_after = number
            break

    assert opened_after == 19  # the tenth failure


def test_failures_of_long_ago_are_forgotten(clock: FakeClock) -> None:
    health = make_health(clock)

    for _ in range(30):
        fail(health, 1)
        clock.advance(31)

    assert health.may_ask(LAB)


@pytest.mark.parametrize(
    "error", [UpstreamRejected("x"), ContextLengthExceeded("x"), EndpointNotServed("x")], ids=lambda e: type(e).__name__
)
def test_a_request_that_is_refused_shows_that_the_deployment_is_alive(clock: FakeClock, error: GatewayError) -> None:
    health = make_health(clock)
    fail(health, 4)

    health.note_failure(LAB, error)
    fail(health, 4)

    assert health.may_ask(LAB)


def test_a_model_process_that_is_not_there_is_asked_again_at_once(clock: FakeClock) -> None:
    health = make_health(clock)

    fail(health, 50, LocalModelUnavailable("loading", retry_after=1.0))

    assert health.may_ask(LAB)


def test_settings_say_when_it_opens_and_for_how_long(clock: FakeClock) -> None:
    settings = FailoverSettings(open_after_failures=2, first_rest_seconds=7, longest_rest_seconds=9)
    health = make_health(clock, settings=settings)

    fail(health, 2)
    first = health.wait_seconds(LAB)
    clock.advance(first)
    fail(health, 1)

    assert (first, health.wait_seconds(LAB)) == pytest.approx((7, 9))


def test_a_report_says_who_is_not_well_why_and_for_how_long(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, 5, UpstreamTimeout("x"))
    health.note_failure(OTHER, UpstreamModelMissing("x"))

    lab, other = health.report()
    assert lab == {
        "deployment": "lab/tiny",
        "state": "open",
        "reason": "upstream_timeout",
        "seconds": 1.0,
        "failures": 5,
    }
    assert (other["deployment"], other["state"], other["reason"]) == (
        "other/tiny",
        "resting",
        "upstream_model_not_found",
    )
    assert other["seconds"] == 300.0


def test_changes_are_told_once_each(clock: FakeClock) -> None:
    told: list[tuple[str, State, State, str]] = []
    health = Health(clock, lambda: 0.5, None, lambda *change: told.append(change))

    fail(health, 8)
    clock.advance(1.0)
    _, probed = health.begin(LAB)
    health.of(LAB).end(probed=probed)
    health.note_success(LAB)
    health.note_success(LAB)

    assert told == [
        ("lab/tiny", "closed", "open", "upstream_error"),
        ("lab/tiny", "open", "half_open", "upstream_error"),
        ("lab/tiny", "half_open", "closed", "it answered"),
    ]


def test_made_up_deployments_do_not_pile_up_and_take_nothing_from_the_configured(clock: FakeClock) -> None:
    health = make_health(clock)
    fail(health, 4)

    for number in range(5000):
        made_up = replace(OTHER, name=f"other/{number}", label="other/other", is_configured=False)
        health.note_failure(made_up, UpstreamModelMissing("x"))
    fail(health, 1)

    assert len(health._made_up) <= 1000
    assert not health.may_ask(LAB)  # its four failures were not forgotten
    assert [unwell["deployment"] for unwell in health.report()] == ["lab/tiny"]


@pytest.mark.parametrize(
    "error", [UpstreamRateLimited("x", retry_after=60.0), UpstreamAuthFailed("x", upstream_status=401)], ids=str
)
def test_what_a_caller_made_up_does_not_make_the_configured_rest(clock: FakeClock, error: UpstreamError) -> None:
    health = make_health(clock)
    made_up = replace(OTHER, label="other/other", is_configured=False, account="host and key")

    health.note_failure(made_up, error)

    assert not health.may_ask(made_up)
    assert health.may_ask(replace(LAB, account="host and key"))


@pytest.mark.parametrize(
    "error",
    [
        UpstreamRateLimited("fewer max_tokens", code="insufficient_quota", upstream_status=402),
        UpstreamAuthFailed("flagged", upstream_status=403),
    ],
    ids=["too dear", "flagged"],
)
def test_what_may_be_about_one_request_takes_several_in_a_row(clock: FakeClock, error: UpstreamError) -> None:
    health = make_health(clock)

    fail(health, 4, error)
    still = health.may_ask(LAB)
    fail(health, 1, error)

    assert still
    assert health.wait_seconds(LAB) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "error",
    [UpstreamTooLarge("x"), UpstreamRateLimited("x", code=REQUEST_EXCEEDS_RATE_LIMIT)],
    ids=["too large", "over the limit by itself"],
)
def test_what_is_certainly_about_one_request_says_nothing(clock: FakeClock, error: UpstreamError) -> None:
    health = make_health(clock)

    fail(health, 50, error)

    assert health.may_ask(LAB)


def test_an_answer_to_a_call_of_before_neither_closes_a_breaker_nor_ends_the_doubling(clock: FakeClock) -> None:
    health = make_health(clock)
    long_ago = clock.now
    clock.advance(1)
    fail(health, 5)
    health.note_failure(OTHER, UpstreamRateLimited("x"))

    health.note_success(LAB, long_ago)
    health.note_success(OTHER, long_ago)
    clock.advance(1.0)
    health.note_failure(OTHER, UpstreamRateLimited("x"))

    assert [unwell["state"] for unwell in health.report()] == ["half_open", "resting"]
    assert health.wait_seconds(OTHER) == pytest.approx(2.0)


@pytest.mark.parametrize(("failed_within", "patience"), [(60.0, 10.0), (0.1, 0.9), (0.0, 0.5)])
def test_a_probe_that_outlives_the_failures_by_far_is_joined_by_one_more(
    clock: FakeClock, failed_within: float, patience: float
) -> None:
    health = make_health(clock)
    for _ in range(5):
        health.note_failure(LAB, DOWN, clock.now - failed_within)
    clock.advance(1.0)
    health.begin(LAB)

    clock.advance(patience - 0.01)
    waiting = health.may_ask(LAB)
    clock.advance(0.02)
    others = []
    for _ in range(3):
        others.append(health.may_ask(LAB))
        health.begin(LAB)

    assert not waiting
    assert others == [True, False, False]


def test_who_failed_last_is_doubtful_for_half_a_minute_or_until_it_answers(clock: FakeClock) -> None:
    health = make_health(clock)
    health.note_failure(LAB, DOWN)
    health.note_failure(OTHER, UpstreamRateLimited("x", retry_after=0.05))
    at_once = health.is_doubtful(LAB), health.is_doubtful(OTHER)

    health.note_success(LAB)
    clock.advance(30)

    assert at_once == (True, True)
    assert (health.is_doubtful(LAB), health.is_doubtful(OTHER)) == (False, False)


def test_what_fails_at_one_endpoint_is_well_at_another_but_a_refused_key_is_refused_everywhere(
    clock: FakeClock,
) -> None:
    healths = Healths(clock, lambda: 0.5)
    lab = replace(LAB, account="host and key")
    chat, vectors = healths.at("chat/completions"), healths.at("embeddings")

    for _ in range(9):
        vectors.note_failure(lab, DOWN)
    still = chat.may_ask(lab)
    vectors.note_failure(lab, UpstreamAuthFailed("x", upstream_status=401))

    assert still
    assert not chat.may_ask(lab)
    assert {unwell["reason"] for unwell in healths.report()} == {"upstream_auth_failed"}
