"""Who asked to be left alone is left alone for that long."""

from __future__ import annotations

import pytest

from gateway.errors import (
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.routing import Health
from gateway.routing.health import AUTH_REST_SECONDS, UNSTATED_REST_SECONDS
from gateway.routing.order import priority
from tests.support.deployments import FakeClock, make_table
from tests.support.exchanges import make_call


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (UpstreamRateLimited("x", retry_after=2.5), 2.5),
        (UpstreamRateLimited("x"), UNSTATED_REST_SECONDS),
        (UpstreamAuthFailed("x"), AUTH_REST_SECONDS),
        (UpstreamUnavailable("x"), 0.0),
        (UpstreamTimeout("x"), 0.0),
        (UpstreamProtocolError("x"), 0.0),
        (UpstreamRejected("x"), 0.0),
        (UpstreamOverloaded("x"), 0.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, UpstreamError) else None,
)
def test_a_failure_makes_a_deployment_rest_as_long_as_its_kind_says(
    clock: FakeClock, error: UpstreamError, seconds: float
) -> None:
    health = Health(clock)

    health.note_failure("lab/tiny", error)

    assert health.rest_seconds("lab/tiny") == pytest.approx(seconds)
    assert health.rest_seconds("lab/other") == 0.0


def test_a_rest_ends_by_the_clock(clock: FakeClock) -> None:
    health = Health(clock)
    health.note_failure("lab/tiny", UpstreamRateLimited("x", retry_after=2.0))

    clock.advance(1.5)
    almost = health.rest_seconds("lab/tiny")
    clock.advance(0.5)

    assert almost == pytest.approx(0.5)
    assert health.rest_seconds("lab/tiny") == 0.0


def test_a_shorter_rest_does_not_cut_a_longer_one(clock: FakeClock) -> None:
    health = Health(clock)
    health.note_failure("lab/tiny", UpstreamAuthFailed("x"))

    health.note_failure("lab/tiny", UpstreamRateLimited("x", retry_after=1.0))

    assert health.rest_seconds("lab/tiny") == pytest.approx(AUTH_REST_SECONDS)


def test_an_answer_ends_a_rest(clock: FakeClock) -> None:
    health = Health(clock)
    health.note_failure("lab/tiny", UpstreamRateLimited("x", retry_after=9.0))

    health.note_success("lab/tiny")

    assert health.rest_seconds("lab/tiny") == 0.0


def test_the_order_is_the_configured_one_without_those_that_rest(clock: FakeClock) -> None:
    health = Health(clock)
    route = make_table({"small": ["a/1", "b/2", "c/3"]}).resolve(make_call("small"))
    health.note_failure("b/2", UpstreamRateLimited("x", retry_after=2.0))

    resting = [deployment.name for deployment in priority(route, health)]
    clock.advance(3)

    assert resting == ["a/1", "c/3"]
    assert [deployment.name for deployment in priority(route, health)] == ["a/1", "b/2", "c/3"]
