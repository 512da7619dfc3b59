"""Rows F12 to F15 and F21: who is left alone after what, for how long, and what callers are told meanwhile."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable

import pytest

from tests.support.app import make_config, running
from tests.support.deployments import FakeClock
from tests.support.drill import HASTE, Drill, Kind, ask
from tests.support.upstream import ScriptedUpstream, Status, WithHeaders
from tests.support.verdicts import ask_aside, is_answered_by_the_sound_one, unwell

Note = Callable[[str, str], None]
QUOTA = Status(429, message="You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota")


@pytest.mark.fault("F12", "429 with Retry-After: 2")
async def test_f12_alone_the_callers_are_told_when_to_come_back(alone: Drill) -> None:
    alone.broken.otherwise = Status(429, retry_after="2")

    first = await alone.ask()
    alone.clock.advance(0.5)
    second = await ask_aside(alone)

    assert (first.status, first.code, first.attempts) == (429, "upstream_rate_limited", 1)
    assert first.error is not None
    assert first.error["type"] == "rate_limit_error"
    assert first.answer.headers["Retry-After"] == "2"
    assert "x-should-retry" not in first.answer.headers
    assert (second.status, second.code, second.attempts) == (503, "no_healthy_deployment", 0)
    assert second.answer.headers["Retry-After-Ms"] == "1500"
    assert len(alone.broken.requests) == 1


@pytest.mark.fault("F12", "429 with Retry-After: 2")
async def test_f12_another_answers_while_the_limited_one_rests_as_long_as_it_asked(pair: Drill) -> None:
    pair.broken.script(Status(429, retry_after="2"))

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)
    pair.clock.advance(1.9)
    assert (await ask_aside(pair)).by == "sound"
    pair.clock.advance(0.2)
    assert (await ask_aside(pair)).by == "broken"


@pytest.mark.fault("F12", "429 from every deployment")
async def test_f12_the_wait_is_that_of_the_first_of_the_group_to_wake(pair: Drill) -> None:
    assert pair.sound is not None
    pair.broken.otherwise = Status(429, retry_after="3")
    pair.sound.otherwise = Status(429, retry_after="7")

    seen = await pair.ask()

    assert (seen.status, seen.code, seen.attempts) == (429, "upstream_rate_limited", 2)
    assert (seen.answer.headers["Retry-After"], seen.answer.headers["x-should-retry"]) == ("3", "false")


@pytest.mark.fault("F12", "429, the other deployment of the same host and key")
async def test_f12_deployments_that_share_a_host_and_a_key_rest_together(kind: Kind, note: Note) -> None:
    clock = FakeClock()
    async with ScriptedUpstream() as upstream:
        upstream.otherwise = Status(429, retry_after="2")
        config = json.loads(make_config(upstream, timeouts=HASTE))
        config["models"]["small"]["deployments"] = ["up0/model", "up0/other"]
        async with running(json.dumps(config), clock=clock) as gateway:
            seen = await ask(gateway, kind)
    note("with another", seen.words)

    assert (seen.status, seen.code, seen.attempts) == (429, "upstream_rate_limited", 1)
    assert len(upstream.requests) == 1


def in_seconds(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


# What the upstream says → the seconds of the rest; a tenth more or less where it is the gateway's own choice.
WAITS: dict[str, tuple[tuple[tuple[str, str], ...], float]] = {
    "a fraction": ((("Retry-After", "2.5"),), 2.5),
    "zero": ((("Retry-After", "0"),), 0.05),
    "negative": ((("Retry-After", "-7"),), 0.05),
    "years": ((("Retry-After", "1e9"),), 60.0),
    "endless digits": ((("Retry-After", "9" * 4000),), 60.0),
    "infinite": ((("Retry-After", "inf"),), 60.0),
    "nan": ((("Retry-After", "nan"),), 1.0),
    "a word": ((("Retry-After", "soon"),), 1.0),
    "empty": ((("Retry-After", ""),), 1.0),
    "no day": ((("Retry-After", "Fri, 99 Nov 2023 99:99:99 GMT"),), 1.0),
    "a year beyond all": ((("Retry-After", "Fri, 01 Nov 99999 00:00:00 GMT"),), 1.0),
    "milliseconds": ((("Retry-After-Ms", "1500"),), 1.5),
    "milliseconds first": ((("Retry-After", "9"), ("Retry-After-Ms", "1500")), 1.5),
    "bad milliseconds": ((("Retry-After", "9"), ("Retry-After-Ms", "later")), 9.0),
    "several": ((("Retry-After", "3"), ("Retry-After", "9")), 3.0),
    "bytes": ((("Retry-After", "\udcff\udcfe"),), 1.0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault("F13", f"429, Retry-After: {name}")) for name in WAITS]
)
async def test_f13_whatever_the_wait_looks_like_it_is_kept_in_bounds(alone: Drill, name: str) -> None:
    headers, seconds = WAITS[name]
    alone.broken.otherwise = WithHeaders(Status(429), headers)

    seen = await alone.ask()

    assert (seen.status, seen.code) == (429, "upstream_rate_limited")
    assert (await unwell(alone))["seconds"] == pytest.approx(seconds, rel=0.11)
    assert 1 <= int(seen.answer.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("away", "seconds"),
    [
        pytest.param(30, 30.0, marks=pytest.mark.fault("F13", "429, Retry-After: a date in 30 s")),
        pytest.param(-30, 0.05, marks=pytest.mark.fault("F13", "429, Retry-After: a date gone by")),
        pytest.param(3000, 60.0, marks=pytest.mark.fault("F13", "429, Retry-After: a date in 50 minutes")),
    ],
)
async def test_f13_a_date_is_understood(alone: Drill, away: float, seconds: float) -> None:
    alone.broken.otherwise = Status(429, retry_after=in_seconds(away))

    seen = await alone.ask()

    assert (seen.status, seen.code) == (429, "upstream_rate_limited")
    assert (await unwell(alone))["seconds"] == pytest.approx(seconds, abs=2 if away == 30 else 0.001)


@pytest.mark.fault("F14", "429 without Retry-After, again and again")
async def test_f14_rests_that_nobody_named_double_up_to_half_a_minute(alone: Drill) -> None:
    alone.broken.otherwise = Status(429)
    rests: list[float] = []

    for turn in range(7):
        seen = await (ask_aside(alone) if turn else alone.ask())
        assert (seen.status, seen.attempts) == (429, 1)
        rests.append((await unwell(alone))["seconds"])
        alone.clock.advance(rests[-1] + 0.001)  # which is rounded

    assert rests == [pytest.approx(wanted, rel=0.11) for wanted in (1, 2, 4, 8, 16, 30, 30)]
    assert max(rests) <= 30


@pytest.mark.fault("F14", "429 without Retry-After, again and again")
async def test_f14_a_good_answer_in_between_begins_from_the_start(alone: Drill) -> None:
    alone.broken.script(Status(429), Status(429))
    for _ in range(2):
        await ask_aside(alone)
        alone.clock.advance(3)
    assert (await ask_aside(alone)).by == "broken"
    alone.broken.script(Status(429))

    seen = await alone.ask()

    assert seen.status == 429
    assert (await unwell(alone))["seconds"] == pytest.approx(1, rel=0.11)


@pytest.mark.fault("F15", "429 insufficient_quota")
async def test_f15_an_unpaid_bill_is_told_and_no_client_tries_again(alone: Drill) -> None:
    alone.broken.otherwise = QUOTA

    first, second = await alone.ask(), await ask_aside(alone)

    assert (first.status, first.code, first.attempts) == (429, "insufficient_quota", 1)
    assert first.answer.headers["x-should-retry"] == "false"
    assert (second.status, second.code) == (503, "no_healthy_deployment")
    assert len(alone.broken.requests) == 1


@pytest.mark.fault("F15", "429 insufficient_quota")
async def test_f15_another_answers_and_the_key_is_left_alone_for_ten_minutes(pair: Drill) -> None:
    pair.broken.otherwise = QUOTA

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)
    state = await unwell(pair)
    assert (state["reason"], state["seconds"]) == ("insufficient_quota", 600)
    pair.clock.advance(599)
    assert (await ask_aside(pair)).attempts == 1
    pair.clock.advance(2)
    assert (await ask_aside(pair)).attempts == 2


@pytest.mark.fault("F21", "every deployment is resting")
async def test_f21_alone_callers_are_refused_at_once_until_the_breaker_half_opens(alone: Drill) -> None:
    alone.broken.otherwise = Status(500)
    for _ in range(5):
        await ask_aside(alone)
    wait = (await unwell(alone))["seconds"]

    before = time.perf_counter()
    seen = await alone.ask()
    took = time.perf_counter() - before

    assert (seen.status, seen.code, seen.attempts, seen.by) == (503, "no_healthy_deployment", 0, "")
    assert seen.error is not None
    assert seen.error["type"] == "service_unavailable_error"
    assert (seen.answer.headers["Retry-After"], wait) == ("2" if wait > 1 else "1", pytest.approx(1, rel=0.11))
    assert len(alone.broken.requests) == 5
    assert took < 0.25  # at once; how soon exactly is the bench's to measure


@pytest.mark.fault("F21", "every deployment is resting")
async def test_f21_the_wait_is_that_of_the_first_to_wake(pair: Drill) -> None:
    assert pair.sound is not None
    pair.broken.otherwise = Status(429, retry_after="40")
    pair.sound.otherwise = Status(429, retry_after="20")
    await ask_aside(pair)
    pair.clock.advance(5)

    seen = await pair.ask()

    assert (seen.status, seen.code, seen.attempts) == (503, "no_healthy_deployment", 0)
    assert (seen.answer.headers["Retry-After"], seen.answer.headers["Retry-After-Ms"]) == ("15", "15000")
    assert (len(pair.broken.requests), len(pair.sound.requests)) == (1, 1)
    told = (await pair.gateway.ask("GET", "/readyz")).json["deployments"]
    assert {each["deployment"] for each in told} == {"up0/model", "up1/model"}
