"""What a refusal of a field teaches when the caller sent others beside it, of which any may be the reason."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from gateway.call import Endpoint
from gateway.errors import UpstreamRejected
from gateway.routing import Deployment, Refusals, TimeoutSettings
from gateway.routing.shaping import shape
from gateway.wire import CHAT_FIELDS
from tests.support.deployments import ScriptedProvider
from tests.support.exchanges import make_call

EFFORT = {"reasoning_effort": "high"}


def make_deployment(settings: dict[str, Any] | None = None, **fields: Any) -> Deployment:
    by_endpoint = dict.fromkeys(get_args(Endpoint), settings or {})
    return Deployment("up/m", "up/m", ScriptedProvider("up"), "m", by_endpoint, TimeoutSettings(), **fields)


def sent(body: dict[str, Any], deployment: Deployment, refusals: Refusals | None = None) -> Any:
    call = make_call(body=body)
    return shape(call, deployment, refusals or Refusals())


def dropped(body: dict[str, Any], deployment: Deployment, refusals: Refusals | None = None) -> tuple[str, ...]:
    call = make_call(body=body)
    shape(call, deployment, refusals or Refusals())
    return call.record.dropped


def fields(shaped: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shaped.items() if name not in ("model", "messages")}


def rejected(param: str | None, code: str | None = "unsupported_parameter") -> UpstreamRejected:
    return UpstreamRejected("no", param=param, code=code)


def test_a_setting_that_is_refused_beside_the_callers_field_is_kept_for_those_who_do_not_send_it() -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()
    call = make_call(body=EFFORT)

    again = refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("temperature"))

    assert again
    assert fields(shape(call, deployment, refusals)) == EFFORT
    assert fields(sent({}, deployment, refusals=refusals)) == {"temperature": 0.6}
    assert fields(sent({"seed": 1}, deployment, refusals=refusals)) == {"temperature": 0.6, "seed": 1}


@pytest.mark.parametrize("second", [{}, {"max_tokens": 5}])
def test_a_setting_that_is_refused_again_without_any_field_is_sent_no_more(second: dict[str, Any]) -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()

    for body in (EFFORT, second):
        call = make_call(body=body)
        assert refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("temperature"))

    assert fields(sent({"stop": "a"}, deployment, refusals=refusals)) == {"stop": "a"}


def test_a_setting_that_is_refused_beside_one_field_and_another_is_kept_for_those_who_send_neither() -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()

    for body in (EFFORT, {"reasoning": {"effort": "high"}}, {"verbosity": "low", "n": 1}):
        call = make_call(body=body)
        assert refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("temperature"))

    assert fields(sent(EFFORT, deployment, refusals=refusals)) == EFFORT
    assert fields(sent({"thinking": 1}, deployment, refusals=refusals)) == {"thinking": 1}
    assert fields(sent({}, deployment, refusals=refusals)) == {"temperature": 0.6}
    assert fields(sent({"n": 1}, deployment, refusals=refusals)) == {"temperature": 0.6, "n": 1}


def test_no_more_is_kept_in_mind_than_there_are_fields() -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()
    known = sorted(CHAT_FIELDS - {"temperature", "messages", "model"})

    for size in (3, 2, 1):
        for start in range(len(known)):
            body = dict.fromkeys((known + known)[start : start + size], 1)
            refusals.learn(make_call(body=body), deployment, {**body, "temperature": 0.6}, rejected("temperature"))

    learnt = refusals.of("up/m")
    assert learnt is not None
    assert sum(map(len, learnt.suspects.get("temperature", ()))) <= len(CHAT_FIELDS)


def test_of_several_fields_beside_a_refused_one_those_that_are_always_there_are_to_blame() -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()

    for other in ("seed", "n"):
        call = make_call(body={**EFFORT, other: 1})
        assert refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("temperature"))

    assert fields(sent(EFFORT, deployment, refusals=refusals)) == EFFORT
    assert fields(sent({"seed": 1, "n": 1}, deployment, refusals=refusals)) == {"temperature": 0.6, "seed": 1, "n": 1}


def test_what_is_dropped_for_one_caller_is_dropped_for_those_only_who_send_the_same() -> None:
    deployment, refusals = make_deployment(drop_params=True), Refusals()
    tools = {"tools": [{"type": "function"}]}
    call = make_call(body={**EFFORT, **tools})

    again = refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("reasoning_effort"))

    assert again
    assert dropped({**EFFORT, **tools}, deployment, refusals) == ("reasoning_effort",)
    assert dropped(EFFORT, deployment, refusals) == ()


@pytest.mark.parametrize("name", ["reasoning", "thinking", "enable_thinking", "chat_template_kwargs", "made_up"])
def test_a_field_that_nobody_knows_may_be_the_reason_too(name: str) -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()
    call = make_call(body={name: 1})

    again = refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("temperature"))

    assert again
    assert fields(sent({name: 1}, deployment, refusals=refusals)) == {name: 1}
    assert fields(sent({}, deployment, refusals=refusals)) == {"temperature": 0.6}
    assert fields(sent(EFFORT, deployment, refusals=refusals)) == {"temperature": 0.6, **EFFORT}


def test_fields_of_callers_own_making_are_kept_in_mind_as_one() -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()

    for index in range(100):
        call = make_call(body={f"made_up_{index}_{part}": 1 for part in range(100)})
        assert refusals.learn(call, deployment, sent(dict(call.body), deployment), rejected("temperature"))

    learnt = refusals.of("up/m")
    assert learnt is not None
    assert learnt.suspects == {"temperature": [frozenset({""})]}
    assert fields(sent({"another": 1}, deployment, refusals=refusals)) == {"another": 1}


def test_a_field_that_the_configuration_lets_through_is_known_by_its_name() -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}, allowed_extra=frozenset({"thinking"})), Refusals()
    call = make_call(body={"thinking": 1})

    refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("temperature"))

    assert fields(sent({"thinking": 2}, deployment, refusals=refusals)) == {"thinking": 2}
    assert fields(sent({"made_up": 1}, deployment, refusals=refusals)) == {"made_up": 1, "temperature": 0.6}


@pytest.mark.parametrize("body", [{"prompt": "x"}, {"input": "x"}, {"max_tokens": 5}])
def test_what_every_request_says_is_no_reason(body: dict[str, Any]) -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()
    call = make_call(body=body)

    refusals.learn(call, deployment, shape(call, deployment, refusals), rejected("temperature"))

    assert fields(sent({}, deployment, refusals=refusals)) == {}


def test_a_setting_that_clashes_with_a_field_that_nobody_knows_yields_to_such_fields_only() -> None:
    deployment, refusals = make_deployment({"temperature": 0.6}), Refusals()
    call = make_call(body={"thinking": 1})
    error = rejected(None)
    error.fields, error.clashes = ("temperature", "thinking"), True

    again = refusals.learn(call, deployment, shape(call, deployment, refusals), error)

    assert again
    assert fields(sent({"thinking": 1}, deployment, refusals=refusals)) == {"thinking": 1}
    assert fields(sent(EFFORT, deployment, refusals=refusals)) == {"temperature": 0.6, **EFFORT}
