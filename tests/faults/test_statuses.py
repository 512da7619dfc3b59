"""Rows F1 to F11 and F16 to F19: what the caller sees when an upstream answers with a status of HTTP that says it failed.

Who rests after it and for how long is in `test_resting.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.app import make_config, running
from tests.support.drill import SOUND_TEXT, Drill, Kind, Seen
from tests.support.upstream import (
    Behaviour,
    Chat,
    Embeddings,
    ScriptedUpstream,
    Status,
)
from tests.support.verdicts import ask_aside, is_answered_by_the_sound_one, is_the_callers_own_fault, unwell

Note = Callable[[str, str], None]
CANARY = "sk-upstream-canary-9876543210"


@pytest.mark.fault("F1", "400 bad request")
async def test_f1_a_bad_request_is_the_callers_and_is_not_tried_elsewhere(pair: Drill) -> None:
    refusal = {"message": f"temperature {CANARY}", "code": "bad_temperature", "param": "temperature"}
    pair.broken.otherwise = Status(400, **refusal)  # type: ignore[arg-type]  # all of them are words

    seen = await pair.ask()

    assert (seen.status, seen.code) == (400, "bad_temperature")
    assert seen.error is not None
    assert (seen.error["type"], seen.error["param"]) == ("invalid_request_error", "temperature")
    assert CANARY not in seen.error["message"]
    assert is_the_callers_own_fault(pair, seen)
    assert await unwell(pair) == {}


@pytest.mark.fault("F1", "400 bad request")
async def test_f1_any_number_of_bad_requests_opens_no_breaker(alone: Drill) -> None:
    alone.broken.otherwise = Status(400)

    seen = [await alone.ask() for _ in range(25)]

    assert {(each.status, each.code) for each in seen} == {(400, None)}
    assert len(alone.broken.requests) == 25


TOO_LONG = Status(400, message="maximum context length is 16 tokens", code="context_length_exceeded")
FILTERED = Status(400, message="refused by our policy", code="content_filter")


async def ask_with_named_others(
    kind: Kind, note: Note, field: str, behaviour: Behaviour, others: Behaviour | None = None
) -> tuple[Seen, Drill]:
    """Ask a gateway whose only deployment does `behaviour`, and whose route names a sound one under `field`."""
    async with ScriptedUpstream() as broken, ScriptedUpstream() as other:
        broken.otherwise = behaviour
        other.otherwise = others or (Embeddings() if kind == "embeddings" else Chat(SOUND_TEXT))
        config = json.loads(make_config(broken, other))
        config["models"]["small"] |= {"deployments": ["up0/model"], field: ["up1/model"]}
        async with running(json.dumps(config)) as gateway:
            it = Drill(kind, gateway, broken, other, clock=None, note=note)  # type: ignore[arg-type]  # nothing rests
            return await it.ask(), it


@pytest.mark.fault("F2", "400 context_length_exceeded")
async def test_f2_a_request_that_is_too_long_is_told_with_its_code(pair: Drill) -> None:
    pair.broken.otherwise = TOO_LONG

    seen = await pair.ask()

    assert (seen.status, seen.code) == (400, "context_length_exceeded")
    assert seen.error is not None
    assert seen.error["param"] == ("input" if pair.kind == "embeddings" else "messages")
    assert is_the_callers_own_fault(pair, seen)


@pytest.mark.fault("F2", "400 context_length_exceeded, context_fallbacks configured")
async def test_f2_a_larger_model_answers_what_was_too_long(kind: Kind, note: Note) -> None:
    seen, it = await ask_with_named_others(kind, note, "context_fallbacks", TOO_LONG)

    if kind == "embeddings":  # another model's vectors would be of another space
        assert (seen.status, seen.code) == (400, "context_length_exceeded")
    else:
        assert is_answered_by_the_sound_one(it, seen)


@pytest.mark.parametrize("kind", ["chat", "stream"], indirect=True)
@pytest.mark.parametrize("others", [Status(500), TOO_LONG, Status(429)], ids=["fails", "too long too", "limited"])
@pytest.mark.fault("F2", "400 context_length_exceeded, and the larger model fails")
async def test_f2_when_the_larger_model_fails_the_caller_is_told_what_it_can_mend(
    kind: Kind, note: Note, others: Behaviour
) -> None:
    seen, it = await ask_with_named_others(kind, note, "context_fallbacks", TOO_LONG, others)

    assert (seen.status, seen.code, seen.attempts) == (400, "context_length_exceeded", 2)
    assert it.sound is not None
    assert len(it.sound.requests) == 1


@pytest.mark.fault("F3", "400 content filter")
async def test_f3_a_content_filters_refusal_is_told_with_its_code(pair: Drill) -> None:
    pair.broken.otherwise = FILTERED

    seen = await pair.ask()

    assert (seen.status, seen.code) == (400, "content_filter")
    assert is_the_callers_own_fault(pair, seen)


@pytest.mark.fault("F3", "400 content filter, content_filter_fallbacks configured")
async def test_f3_another_model_answers_what_a_filter_refused(kind: Kind, note: Note) -> None:
    seen, it = await ask_with_named_others(kind, note, "content_filter_fallbacks", FILTERED)

    if kind == "embeddings":
        assert (seen.status, seen.code) == (400, "content_filter")
    else:
        assert is_answered_by_the_sound_one(it, seen)


REFUSED_KEYS = [
    pytest.param(401, "upstream_auth_failed", marks=pytest.mark.fault("F4", "401 from the upstream"), id="F4"),
    pytest.param(403, "upstream_forbidden", marks=pytest.mark.fault("F5", "403 from the upstream"), id="F5"),
]
REGION = f"Country, region, or territory not supported, account of {CANARY}"


@pytest.mark.parametrize(("status", "code"), REFUSED_KEYS)
async def test_f4_f5_a_refused_key_of_ours_is_never_the_callers(alone: Drill, status: int, code: str) -> None:
    alone.broken.otherwise = Status(status, message=REGION, code="invalid_api_key")

    first, second = await alone.ask(), await ask_aside(alone)

    assert (first.status, first.code) == (502, code)
    assert first.error is not None
    assert first.error["type"] == "server_error"
    assert b"region" not in first.answer.body
    assert b"canary" not in first.answer.body
    if status == 401:
        assert (second.status, second.code) == (503, "no_healthy_deployment")
        assert len(alone.broken.requests) == 1  # the key is out of rotation
    else:
        assert (second.status, second.code) == (502, code)  # one refusal may be about one request


@pytest.mark.fault("F5", "403 from the upstream")
async def test_f5_what_is_forbidden_to_every_call_is_left_alone_for_longer_and_longer(pair: Drill) -> None:
    pair.broken.otherwise = Status(403)

    seen = [await pair.ask() for _ in range(6)]

    assert {each.by for each in seen} == {"sound"}
    assert len(pair.broken.requests) == 5
    state = await unwell(pair)
    assert (state["state"], state["reason"]) == ("open", "upstream_forbidden")
    pair.clock.advance(2)
    await ask_aside(pair)
    assert (await unwell(pair))["seconds"] == 2.0


@pytest.mark.fault("F4", "401 from the upstream")
async def test_f4_a_refused_key_is_left_alone_for_five_minutes(pair: Drill) -> None:
    pair.broken.otherwise = Status(401)

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)
    state = await unwell(pair)
    assert (state["state"], state["reason"], state["seconds"]) == ("resting", "upstream_auth_failed", 300)
    pair.clock.advance(299)
    assert (await ask_aside(pair)).attempts == 1
    pair.clock.advance(2)
    assert (await ask_aside(pair)).attempts == 2


@pytest.mark.fault("F6", "404 model unknown to the upstream")
async def test_f6_a_model_that_the_upstream_does_not_know_is_our_mistake(alone: Drill) -> None:
    alone.broken.otherwise = Status(404, code="model_not_found")

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (502, "upstream_model_not_found", 1)
    assert (await unwell(alone))["reason"] == "upstream_model_not_found"


@pytest.mark.fault("F6", "404 model unknown to the upstream")
async def test_f6_the_next_deployment_has_the_model_and_the_first_is_marked(
    pair: Drill, capsys: pytest.CaptureFixture[str]
) -> None:
    pair.broken.otherwise = Status(404, code="model_not_found")

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)
    assert (await unwell(pair))["state"] == "resting"
    pair.clock.advance(299)
    assert (await ask_aside(pair)).attempts == 1
    told = next(line for line in map(json.loads, capsys.readouterr().err.splitlines()) if line["event"] == "deployment")
    assert (told["deployment"], told["state"]) == ("up0/model", "resting")
    assert (told["level"], told["reason"]) == ("warning", "upstream_model_not_found")


FAILURES = {
    # row: the upstream's status → the caller's status, code and type
    "F8": (408, 504, "upstream_timeout", "server_error"),
    "F9": (409, 502, "upstream_error", "server_error"),
    "F16": (500, 502, "upstream_error", "server_error"),
    "F17": (502, 502, "upstream_error", "server_error"),
    "F17b": (504, 504, "upstream_timeout", "server_error"),
    "F18": (503, 503, "server_is_overloaded", "service_unavailable_error"),
    "F19": (529, 503, "server_is_overloaded", "service_unavailable_error"),
}
FAILING = [
    pytest.param(*told, marks=pytest.mark.fault(row[:3].rstrip("b"), f"{told[0]} from the upstream"), id=row)
    for row, told in FAILURES.items()
]


@pytest.mark.parametrize(("status", "told", "code", "kind_of_error"), FAILING)
async def test_f8_f9_f16_to_f19_alone_a_failure_is_told_honestly(
    alone: Drill, status: int, told: int, code: str, kind_of_error: str
) -> None:
    alone.broken.otherwise = Status(status, message=f"boom {CANARY}")

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (told, code, 1)
    assert seen.error is not None
    assert seen.error["type"] == kind_of_error
    assert b"canary" not in seen.answer.body
    assert "x-should-retry" not in seen.answer.headers  # nothing was spent, the client may try
    assert seen.answer.headers.get("Retry-After") == ("1" if code == "server_is_overloaded" else None)


@pytest.mark.parametrize(("status", "told", "code", "kind_of_error"), FAILING)
async def test_f8_f9_f16_to_f19_another_deployment_answers(
    pair: Drill, status: int, told: int, code: str, kind_of_error: str
) -> None:
    pair.broken.otherwise = Status(status)

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)
    figures = await pair.gateway.figures()
    assert figures[("gateway_attempts_total", *sorted(("up0/model", code)))] == 1
    assert figures[("gateway_attempts_total", "ok", "up1/model")] == 1


@pytest.mark.parametrize(("status", "told", "code", "kind_of_error"), FAILING)
async def test_f8_f9_f16_to_f19_when_all_fail_the_last_is_told_and_clients_need_not_repeat_it(
    pair: Drill, status: int, told: int, code: str, kind_of_error: str
) -> None:
    assert pair.sound is not None
    pair.broken.otherwise = pair.sound.otherwise = Status(status)

    seen = await pair.ask()

    assert (seen.status, seen.code, seen.attempts) == (told, code, 2)
    assert seen.answer.headers["x-should-retry"] == "false"


REFUSALS = [
    pytest.param(413, "request_too_large", marks=pytest.mark.fault("F10", "413 from the upstream"), id="F10"),
    pytest.param(422, "bad_schema", marks=pytest.mark.fault("F11", "422 from the upstream"), id="F11"),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
async def test_f10_f11_what_is_wrong_with_the_request_is_passed_on(pair: Drill, status: int, code: str) -> None:
    pair.broken.otherwise = Status(status, code="bad_schema" if status == 422 else None)

    seen = await pair.ask()

    assert (seen.status, seen.code) == (status, code)
    assert is_the_callers_own_fault(pair, seen)
