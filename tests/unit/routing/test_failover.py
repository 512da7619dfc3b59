"""Deployments are tried in order until one answers; what the request is to blame for is told at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.call import Call
from gateway.errors import (
    ContextLengthExceeded,
    EndpointNotServed,
    GatewayError,
    NoDeployment,
    ShuttingDown,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers import Exchange, Reply
from gateway.routing import Failover, FailoverSettings, Healths, Refusals
from tests.support.deployments import FakeClock, ScriptedProvider, make_deployments, make_healths, make_table
from tests.support.exchanges import make_call

BROKEN = UpstreamError("x", code="upstream_stream_interrupted")


async def ask(clock: FakeClock, call: Call, *providers: ScriptedProvider, health: Healths | None = None) -> bytes:
    """Send the call to a route with one deployment of each provider; return the answer."""
    table = make_table({"small": [f"{provider.name}/m" for provider in providers]}, providers)
    failover = Failover(health or make_healths(clock), Refusals(), clock)
    async with await failover.first_success(call, table.resolve(call)) as reply:
        return reply.body


async def test_the_first_deployment_that_answers_is_the_last_that_is_asked(clock: FakeClock) -> None:
    first, second = ScriptedProvider("first"), ScriptedProvider("second")

    body = await ask(clock, make_call(), first, second)

    assert body == b"first"
    assert second.asked == []


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailable("x", upstream_status=500),
        UpstreamTimeout("x"),
        UpstreamRateLimited("x"),
        UpstreamOverloaded("x"),
        UpstreamProtocolError("x"),
        UpstreamAuthFailed("x"),
        UpstreamModelMissing("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_far_sides_faults_move_on_to_the_next(clock: FakeClock, error: GatewayError) -> None:
    call = make_call()

    body = await ask(clock, call, ScriptedProvider("first", error), ScriptedProvider("second"))

    assert body == b"second"
    assert [(attempt.deployment, attempt.outcome) for attempt in call.record.attempts] == [
        ("first/m", error.code),
        ("second/m", "ok"),
    ]


@pytest.mark.parametrize(
    "error",
    [UpstreamRejected("x", upstream_status=400, code="bad"), ContextLengthExceeded("x")],
    ids=lambda error: type(error).__name__,
)
async def test_the_requests_own_faults_are_told_at_once(clock: FakeClock, error: GatewayError) -> None:
    second = ScriptedProvider("second")

    with pytest.raises(type(error)):
        await ask(clock, make_call(), ScriptedProvider("first", error), second)

    assert second.asked == []


async def test_when_all_fail_the_last_error_is_told_with_its_deployment(clock: FakeClock) -> None:
    first = ScriptedProvider("first", UpstreamUnavailable("a"))
    second = ScriptedProvider("second", UpstreamTimeout("b"))

    with pytest.raises(UpstreamTimeout) as caught:
        await ask(clock, make_call(), first, second)

    assert (caught.value.message, caught.value.deployment) == ("b", "second/m")


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
async def test_an_endpoint_that_one_does_not_serve_is_not_the_word_on_another_that_failed(
    clock: FakeClock, order: int
) -> None:
    errors = [EndpointNotServed("never"), UpstreamTimeout("now")][::order]
    providers = [ScriptedProvider(type(error).__name__, error) for error in errors]
    call = make_call()

    with pytest.raises(UpstreamTimeout):
        await ask(clock, call, *providers)

    assert call.record.deployment == "UpstreamTimeout/m"


async def test_when_all_rest_the_earliest_to_wake_is_told(clock: FakeClock) -> None:
    health = make_healths(clock)
    first_deployment, second_deployment = make_deployments("first/m", "second/m")
    health.at("chat/completions").note_failure(first_deployment, UpstreamRateLimited("x", retry_after=9.0))
    health.at("chat/completions").note_failure(second_deployment, UpstreamRateLimited("x", retry_after=4.0))
    first, second = ScriptedProvider("first"), ScriptedProvider("second")

    with pytest.raises(NoDeployment) as caught:
        await ask(clock, make_call(), first, second, health=health)

    assert caught.value.retry_after == pytest.approx(4.0)
    assert caught.value.status == 503
    assert (first.asked, second.asked) == ([], [])


async def test_a_rate_limit_keeps_later_requests_away_until_it_is_over(clock: FakeClock) -> None:
    health = make_healths(clock)
    first, second = (
        ScriptedProvider("first", UpstreamRateLimited("x", retry_after=2.0)),
        ScriptedProvider("second"),
    )
    bodies = []

    for seconds in (0, 1, 2):
        clock.advance(seconds)
        bodies.append(await ask(clock, make_call(), first, second, health=health))

    assert bodies == [b"second", b"second", b"first"]
    assert len(first.asked) == 2


async def test_attempts_are_recorded_with_their_times_statuses_and_words(clock: FakeClock) -> None:
    call = make_call()
    first = ScriptedProvider(
        "first", UpstreamUnavailable("went away", upstream_status=500), clock=clock, takes_seconds=2
    )
    second = ScriptedProvider("second", clock=clock, takes_seconds=3)

    await ask(clock, call, first, second)

    failed, good = call.record.attempts
    assert (failed.outcome, failed.status, failed.detail) == ("upstream_error", 500, "went away")
    assert (failed.ended - failed.started, good.ended - good.started) == (2, 3)
    assert call.record.upstream_seconds == 5
    assert call.record.deployment == "second/m"


async def test_an_upstreams_own_code_is_no_word_of_ours(clock: FakeClock) -> None:
    call = make_call()
    error = UpstreamRejected("x", upstream_status=400, code="any-word-7f3a")

    with pytest.raises(UpstreamRejected):
        await ask(clock, call, ScriptedProvider("first", error))

    assert call.record.attempts[0].outcome == "upstream_rejected"


async def test_a_cancelled_attempt_has_an_end_and_is_no_success(clock: FakeClock) -> None:
    call = make_call()
    provider = ScriptedProvider("first")
    provider.hangs = True
    asking = asyncio.create_task(ask(clock, call, provider))
    await asyncio.sleep(0)
    clock.advance(7)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    assert call.record.attempts[0].outcome == "cancelled"
    assert call.record.upstream_seconds == 7


async def test_a_deployment_is_asked_for_its_model_with_its_settings(clock: FakeClock) -> None:
    provider = ScriptedProvider("first")
    call = make_call(stream=True, body={"stream_options": {"include_usage": True}})

    await ask(clock, call, provider)

    exchange = provider.asked[0]
    assert (exchange.model, exchange.stream, exchange.wants_usage) == ("m", True, True)
    assert exchange.body == call.body


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
async def test_usage_that_was_not_asked_for_is_not_wanted(clock: FakeClock, options: object) -> None:
    provider = ScriptedProvider("first")

    await ask(clock, make_call(stream=True, body={"stream_options": options}), provider)

    assert provider.asked[0].wants_usage is False


async def test_a_request_that_is_too_long_goes_to_the_larger_model_that_the_route_names(clock: FakeClock) -> None:
    call = make_call()

    body = await ask_instead(clock, call, ContextLengthExceeded("too long"))

    assert body == b"other"
    assert [attempt.outcome for attempt in call.record.attempts] == ["context_length_exceeded", "ok"]


async def test_a_filtered_request_goes_to_the_model_that_the_route_names_for_it(clock: FakeClock) -> None:
    error = UpstreamRejected("x", upstream_status=400, code="content_filter")

    assert await ask_instead(clock, make_call(), error, which="unfiltered") == b"other"


@pytest.mark.parametrize(
    ("error", "which"),
    [
        (ContextLengthExceeded("too long"), "unfiltered"),
        (UpstreamRejected("x", upstream_status=400, code="content_filter"), "larger"),
        (UpstreamRejected("x", upstream_status=400, code="bad"), "unfiltered"),
    ],
    ids=["too long", "filtered", "bad"],
)
async def test_no_other_refusal_goes_there(clock: FakeClock, error: GatewayError, which: str) -> None:
    with pytest.raises(type(error)):
        await ask_instead(clock, make_call(), error, which=which)


async def test_when_the_larger_model_fails_too_the_caller_reads_what_it_can_mend(clock: FakeClock) -> None:
    with pytest.raises(ContextLengthExceeded, match="too long"):
        await ask_instead(clock, make_call(), ContextLengthExceeded("too long"), UpstreamUnavailable("x"))


async def ask_instead(
    clock: FakeClock, call: Call, first: GatewayError, *second: GatewayError, which: str = "larger"
) -> bytes:
    """Send the call to a route whose one deployment fails and which names another for it; return the answer."""
    providers = ScriptedProvider("one", first), ScriptedProvider("other", *second)
    table = make_table({"small": ["one/m"], "big": ["other/m"]}, providers)
    other = table.resolve(make_call("big"))
    route = replace(table.resolve(call), larger=other if which == "larger" else None)
    route = replace(route, unfiltered=other if which == "unfiltered" else None)
    async with await Failover(make_healths(clock), Refusals(), clock).first_success(call, route) as reply:
        return reply.body


async def test_a_total_outage_costs_little_more_attempts_than_there_are_calls(clock: FakeClock) -> None:
    providers = [EverFailing(name) for name in ("a", "b", "c")]
    table = make_table({"small": ["a/m", "b/m", "c/m"]}, providers)
    failover = Failover(make_healths(clock), Refusals(), clock)
    refused_at_once = 0

    for _ in range(1000):
        call = make_call()
        with pytest.raises(GatewayError):
            await failover.first_success(call, table.resolve(call))
        refused_at_once += not call.record.attempts
        clock.advance(0.01)

    attempts = sum(len(provider.asked) for provider in providers)
    assert attempts <= 1.10 * 1000 + 3
    assert attempts < 60  # breakers: five to open each, then probes that come ever more rarely
    assert refused_at_once > 900


async def test_a_dead_deployment_is_hardly_asked_once_its_breaker_is_open(clock: FakeClock) -> None:
    dead, sound = EverFailing("a"), ScriptedProvider("b")
    table = make_table({"small": ["a/m", "b/m"]}, [dead, sound])
    failover = Failover(make_healths(clock), Refusals(), clock)

    for _ in range(10_000):
        call = make_call()
        async with await failover.first_success(call, table.resolve(call)) as reply:
            assert reply.body == b"b"
        clock.advance(0.01)

    assert len(dead.asked) - 5 <= 0.01 * 10_000


async def test_a_spent_budget_spares_who_just_failed_but_never_who_is_well(clock: FakeClock) -> None:
    spent: list[int] = []
    failing, doubtful = EverFailing("a"), ScriptedProvider("b", *[UpstreamUnavailable("x")] * 2)
    table = make_table({"small": ["a/m", "b/m"]}, [failing, doubtful])
    settings = FailoverSettings(open_after_failures=20)
    failover = Failover(
        make_healths(clock, settings=settings), Refusals(), clock, retry_budget=0.0, spent=lambda: spent.append(1)
    )
    asked = []

    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            call = make_call()
            await failover.first_success(call, table.resolve(call))
        asked.append(len(doubtful.asked))

    assert asked == [1, 1, 1]
    assert len(spent) == 2


async def test_a_stream_that_breaks_after_content_counts_against_its_deployment(clock: FakeClock) -> None:
    provider = ScriptedProvider("a")
    table = make_table({"small": ["a/m"]}, [provider])
    health = make_healths(clock)
    failover = Failover(health, Refusals(), clock)
    deployment = table.resolve(make_call()).deployments[0]

    for _ in range(5):
        call = make_call(stream=True)
        async with await failover.first_success(call, table.resolve(call)):
            running = health.at("chat/completions").of(deployment).in_flight
            call.record.attempts[-1].error = BROKEN  # as whoever sends the stream writes it

    assert running == 1
    assert health.at("chat/completions").of(deployment).in_flight == 0
    assert not health.at("chat/completions").may_ask(deployment)


async def test_a_stream_that_our_own_end_cuts_says_nothing_of_the_deployment(clock: FakeClock) -> None:
    table = make_table({"small": ["a/m"]}, [ScriptedProvider("a")])
    health = make_healths(clock)
    failover = Failover(health, Refusals(), clock)
    deployment = table.resolve(make_call()).deployments[0]

    for _ in range(9):
        call = make_call(stream=True)
        async with await failover.first_success(call, table.resolve(call)):
            call.record.attempts[-1].error = ShuttingDown()

    condition = health.at("chat/completions").of(deployment)
    assert (condition.in_flight, condition.failures) == (0, 0)
    assert call.record.attempts[-1].error is None  # its traceback would lead back to the record


async def test_a_caller_that_leaves_says_nothing_of_the_deployment(clock: FakeClock) -> None:
    table = make_table({"small": ["a/m"]}, [ScriptedProvider("a")])
    health = make_healths(clock)
    failover = Failover(health, Refusals(), clock)
    deployment = table.resolve(make_call()).deployments[0]

    for _ in range(9):
        call = make_call(stream=True)
        with pytest.raises(asyncio.CancelledError):
            async with await failover.first_success(call, table.resolve(call)):
                raise asyncio.CancelledError

    assert (
        health.at("chat/completions").of(deployment).in_flight,
        health.at("chat/completions").of(deployment).failures,
    ) == (0, 0)


async def test_a_caller_that_waited_long_in_vain_counts_against_the_deployment(clock: FakeClock) -> None:
    provider = ScriptedProvider("a")
    provider.hangs = True
    table = make_table({"small": ["a/m"]}, [provider])
    healths = make_healths(clock)
    failover = Failover(healths, Refusals(), clock)
    deployment = table.resolve(make_call()).deployments[0]
    failures = []

    for waited in (59.0, 61.0):
        asking = asyncio.ensure_future(failover.first_success(call := make_call(), table.resolve(call)))
        await asyncio.sleep(0)
        clock.advance(waited)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        failures.append(healths.at("chat/completions").of(deployment).failures)

    assert failures == [0, 1]
    assert call.record.attempts[0].outcome == "cancelled"


async def test_a_caller_that_leaves_a_queue_says_nothing_of_the_deployment(clock: FakeClock) -> None:
    class Queueing(ScriptedProvider):
        async def send(self, exchange: Exchange) -> Reply:
            exchange.may_wait = True
            return await super().send(exchange)

    provider = Queueing("a")
    provider.hangs = True
    table = make_table({"small": ["a/m"]}, [provider])
    healths = make_healths(clock)
    asking = asyncio.ensure_future(
        Failover(healths, Refusals(), clock).first_success(make_call(), table.resolve(make_call()))
    )
    await asyncio.sleep(0)

    clock.advance(3600.0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    condition = healths.at("chat/completions").of(table.resolve(make_call()).deployments[0])
    assert (condition.failures, condition.in_flight) == (0, 0)


@pytest.mark.parametrize(("deployments", "seconds"), [(1, 600), (2, 300), (3, 200), (9, 120)])
async def test_deployments_of_a_route_share_the_patience_of_callers(
    clock: FakeClock, deployments: int, seconds: float
) -> None:
    providers = [ScriptedProvider(f"p{index}") for index in range(deployments)]

    await ask(clock, make_call(), *providers)

    assert providers[0].asked[0].patience.begin_seconds(stream=False) == seconds


class EverFailing(ScriptedProvider):
    """Fails whenever it is asked."""

    async def send(self, exchange: Exchange) -> Reply:
        self.asked.append(exchange)
        raise UpstreamUnavailable("x")
