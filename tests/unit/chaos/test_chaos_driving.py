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


async def test_a_redirect_is_not_followed() -> None:
    everybody = next(case for case in cases_of("redirect") if case.where == "all")

    (result,) = await play([everybody], 1.0)

    assert result.asked == ("one/a", "two/b")
    assert (result.status, result.verdict.code) == (502, "upstream_redirect")


async def test_an_answer_that_does_not_come_in_time_is_lost() -> None:
    hanging = next(case for case in cases_of("hang") if case.where == "all")
    impatient = replace(hanging, deployments=())  # no deployments: no patience but the grace

    (result,) = await play([impatient], 5.0)

    assert result.verdict.word == "lost"
    assert result.verdict.reason == "no whole answer within 1 s"
    assert result.status is None
    assert 1.0 <= result.seconds < 2.0


async def test_no_application_outlives_its_case() -> None:
    await play(cases_of("server-error", "no-model", "error-event"), 1.0)

    gc.collect()

    assert not [each for each in gc.get_objects() if isinstance(each, web.Application)]
