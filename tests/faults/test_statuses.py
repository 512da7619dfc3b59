"""Rows F1 to F21: what the caller sees when an upstream answers with a status that is not 200."""

from __future__ import annotations

import pytest

from tests.support.drill import Drill
from tests.support.upstream import Status


@pytest.mark.fault("F1", "400 bad request")
async def test_f1_a_bad_request_is_the_callers_and_is_not_tried_elsewhere(pair: Drill) -> None:
    pair.broken.otherwise = Status(400, message="temperature is too high", code="bad_temperature", param="temperature")

    seen = await pair.ask()

    assert (seen.status, seen.code, seen.attempts) == (400, "bad_temperature", 1)
    assert seen.error is not None
    assert seen.error["param"] == "temperature"
    assert pair.sound is not None
    assert pair.sound.requests == []


@pytest.mark.fault("F4", "401 from the upstream")
async def test_f4_a_refused_key_of_ours_is_never_a_401_for_the_caller(alone: Drill) -> None:
    alone.broken.otherwise = Status(401, message="Incorrect API key provided: sk-upstream-canary")

    seen = await alone.ask()

    assert (seen.status, seen.code) == (502, "upstream_auth_failed")
    assert b"canary" not in seen.answer.body


@pytest.mark.fault("F4", "401 from the upstream")
async def test_f4_with_another_deployment_the_caller_gets_its_answer(pair: Drill) -> None:
    pair.broken.otherwise = Status(401)

    first, second = await pair.ask(), await pair.ask()

    assert (first.status, first.by, first.attempts) == (200, "sound", 2)
    assert (second.by, second.attempts) == ("sound", 1)
    assert len(pair.broken.requests) == 1  # the key is out of rotation
