"""Playing cases: what is noted of each, and that nothing of a case outlives it."""

from __future__ import annotations

import gc
import json
from dataclasses import replace

from aiohttp import web

from gateway.chaos.cases import Case, cases
from gateway.chaos.driving import Driver, Result
from gateway.chaos.faults import faults
from gateway.chaos.running import Wishes, make_field
from gateway.config import parse, resolve

PROVIDERS = {
    "one": {"kind": "openai", "base_url": "http://one.invalid/v1", "api_key": "k1"},
    "two": {"kind": "openai", "base_url": "http://two.invalid/v1", "api_key": "k2"},
}
CONFIG = parse(
    json.dumps({"providers": PROVIDERS, "models": {"talk": {"deployments": ["one/a", "two/b"]}}}), "x.yaml", environ={}
)
RESOLVED = resolve(CONFIG)


def cases_of(*names: str) -> list[Case]:
    wanted = [fault for fault in faults() if fault.name in names]
    return list(cases(make_field(CONFIG, RESOLVED, Wishes()), wanted))


async def play(played: list[Case], patience: float) -> list[Result]:
    return await Driver(CONFIG, RESOLVED, patience).play_all(played)


async def test_results_stand_in_the_order_of_the_cases_and_are_counted() -> None:
    played = cases_of("hang", "server-error")
    told: list[int] = []

    results = await Driver(CONFIG, RESOLVED, 0.3).play_all(played, told.append)

    assert [result.case for result in results] == played
    assert told == list(range(1, len(played) + 1))


async def test_it_is_noted_who_was_asked_and_who_answered() -> None:
    second = next(case for case in cases_of("server-error") if case.where == "two/b")

    (result,) = await play([second], 1.0)

    assert (result.asked, result.answered_by, result.attempts) == (("two/b", "one/a"), "one/a", 2)
    assert result.touched
    assert result.verdict.word == "ok"


async def test_who_cannot_be_reached_is_not_seen_to_be_asked_but_counts() -> None:
    first = next(case for case in cases_of("refused") if case.where == "one/a")

    (result,) = await play([first], 1.0)

    assert (result.asked, result.attempts, result.touched) == (("two/b",), 2, True)


async def test_a_case_in_which_the_broken_one_is_not_asked_shows_nothing() -> None:
    second = next(case for case in cases_of("server-error") if case.where == "two/b")

    (result,) = await play([replace(second, first="one/a")], 1.0)

    assert (result.asked, result.touched, result.verdict.word) == (("one/a",), False, "not asked")


async def test_an_error_that_is_another_faults_is_dishonest() -> None:
    everybody = next(case for case in cases_of("server-error") if case.where == "all")
    (limit,) = {case.fault for case in cases_of("rate-limit")}

    (result,) = await play([replace(everybody, fault=replace(everybody.fault, truths=limit.truths))], 1.0)

    assert (result.status, result.verdict.word) == (502, "dishonest")


async def test_an_answer_that_takes_more_than_the_patience_of_its_attempts_is_dishonest() -> None:
    dripping = next(case for case in cases_of("drip") if case.where == "all")

    # Two attempts that are ended after twice 1.2 s each take 4.8 s, of which 1.2 s each would be 3.4 s with the grace.
    (result,) = await play([replace(dripping, fault=replace(dripping.fault, patiences=1.0))], 1.2)

    assert result.verdict.word == "dishonest"
    assert "where 2 attempts may take 3.4 s" in result.verdict.reason


async def test_a_request_that_is_wrong_for_one_is_answered_by_those_named_for_it() -> None:
    named = {"context_fallbacks": ["three/c", "four/d"], "content_filter_fallbacks": ["four/d"]}
    hosts = {name: {"kind": "openai", "base_url": f"http://{name}.invalid/v1"} for name in ("one", "three", "four")}
    written = {"providers": hosts, "models": {"talk": {"deployments": ["one/a"], **named}}}
    config = parse(json.dumps(written), "x.yaml", environ={})
    resolved = resolve(config)
    wanted = [fault for fault in faults() if fault.instead]
    played = [case for case in cases(make_field(config, resolved, Wishes()), wanted) if case.form == "chat"]

    results = await Driver(config, resolved, 1.0).play_all(played)

    assert [(each.case.fault.name, each.case.where, each.verdict.word, each.asked) for each in results] == [
        ("context-too-long", "one/a", "ok", ("one/a", "three/c")),
        ("context-too-long", "three/c as fallback", "ok", ("one/a", "three/c", "four/d")),
        ("context-too-long", "four/d as fallback", "ok", ("one/a", "four/d", "three/c")),
        ("context-too-long", "all fallbacks", "honest", ("one/a", "three/c", "four/d")),
        ("content-filter", "one/a", "ok", ("one/a", "four/d")),
        ("content-filter", "four/d as fallback", "honest", ("one/a", "four/d")),
    ]
    assert {each.verdict.code for each in results} == {None, "context_length_exceeded", "content_filter"}


async def test_a_redirect_is_not_followed() -> None:
    everybody = next(case for case in cases_of("redirect") if case.where == "all")

    (result,) = await play([everybody], 1.0)

    assert result.asked == ("one/a", "two/b")
    assert (result.status, result.verdict.code) == (502, "upstream_redirect")


async def test_an_answer_that_does_not_come_in_time_is_lost() -> None:
    hanging = next(case for case in cases_of("hang") if case.where == "all")
    impatient = replace(hanging, most_attempts=0)  # no attempts: no patience but the grace

    (result,) = await play([impatient], 5.0)

    assert result.verdict.word == "lost"
    assert result.verdict.reason == "no whole answer within 1 s"
    assert result.status is None
    assert 1.0 <= result.seconds < 2.0


async def test_no_application_outlives_its_case() -> None:
    await play(cases_of("server-error", "no-model", "error-event"), 1.0)

    gc.collect()

    assert not [each for each in gc.get_objects() if isinstance(each, web.Application)]
