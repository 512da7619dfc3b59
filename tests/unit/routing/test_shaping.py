"""What a deployment is sent: whose value wins, what is left out, how the longest answer is said, what is learnt."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from gateway.call import Endpoint
from gateway.errors import UpstreamRejected
from gateway.routing import Deployment, Refusals, TimeoutSettings
from gateway.routing.shaping import shape
from tests.support.deployments import ScriptedProvider
from tests.support.exchanges import MESSAGES, make_call


def make_deployment(settings: dict[str, Any] | None = None, **fields: Any) -> Deployment:
    by_endpoint = dict.fromkeys(get_args(Endpoint), settings or {})
    return Deployment("up/m", "up/m", ScriptedProvider("up"), "m", by_endpoint, TimeoutSettings(), **fields)


def sent(body: dict[str, Any], deployment: Deployment, style: str = "", refusals: Refusals | None = None) -> Any:
    call = make_call(body=body)
    call.style = style
    return shape(call, deployment, refusals or Refusals())


def dropped(body: dict[str, Any], deployment: Deployment, refusals: Refusals | None = None) -> tuple[str, ...]:
    call = make_call(body=body)
    shape(call, deployment, refusals or Refusals())
    return call.record.dropped


def fields(shaped: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shaped.items() if name not in ("model", "messages")}


def rejected(param: str | None, code: str | None = "unsupported_parameter") -> UpstreamRejected:
    return UpstreamRejected("no", param=param, code=code)


def test_the_caller_wins_then_the_style_then_the_deployment() -> None:
    deployment = make_deployment({"temperature": 0.6, "frequency_penalty": 0.1, "seed": 7})

    shaped = sent({"temperature": 1.5}, deployment, style="creative")

    assert fields(shaped) == {"temperature": 1.5, "frequency_penalty": 0.7, "presence_penalty": 0.7, "seed": 7}


def test_a_null_is_left_out_as_far_as_settings_go() -> None:
    shaped = sent({"temperature": None, "top_p": None}, make_deployment({"temperature": 0.6}))

    assert fields(shaped) == {"temperature": 0.6, "top_p": None}


def test_the_call_itself_stays_as_it_was() -> None:
    call = make_call(body={"max_tokens": 9})

    shape(call, make_deployment({"seed": 1}, max_output_tokens=5), Refusals())

    assert call.body == {"model": "small", "messages": MESSAGES, "max_tokens": 9}


def test_what_a_model_is_known_to_refuse_no_style_sends() -> None:
    deployment = make_deployment(refuses=frozenset({"temperature", "presence_penalty"}))

    assert fields(sent({}, deployment, style="precise")) == {"frequency_penalty": 0.0}


def test_styles_are_for_text_only() -> None:
    call = make_call(endpoint="embeddings", body={"input": "a"})
    call.style = "precise"

    assert "temperature" not in shape(call, make_deployment(), Refusals())


def test_the_callers_own_field_is_kept_although_the_model_refuses_it() -> None:
    shaped = sent({"temperature": 1}, make_deployment(refuses=frozenset({"temperature"})))

    assert fields(shaped) == {"temperature": 1}
    assert dropped({"temperature": 1}, make_deployment(refuses=frozenset({"temperature"}))) == ()


def test_a_deployment_that_drops_params_leaves_out_what_the_model_refuses_and_says_so() -> None:
    deployment = make_deployment({"top_k": 3}, refuses=frozenset({"temperature", "top_k", "stop"}), drop_params=True)

    shaped = sent({"temperature": 1, "seed": 2}, deployment)

    assert fields(shaped) == {"seed": 2}
    assert dropped({"temperature": 1, "seed": 2}, deployment) == ("temperature",)


@pytest.mark.parametrize(
    ("body", "field", "limit", "expected"),
    [
        ({"max_tokens": 100}, None, None, {"max_tokens": 100}),
        ({"max_tokens": 100}, None, 50, {"max_tokens": 50}),
        ({"max_completion_tokens": 100}, None, 50, {"max_completion_tokens": 50}),
        ({"max_tokens": 100}, "max_completion_tokens", None, {"max_completion_tokens": 100}),
        ({"max_completion_tokens": 100}, "max_tokens", 500, {"max_tokens": 100}),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", None, {"max_tokens": 2}),
        ({"max_tokens": 100, "max_completion_tokens": None}, "max_completion_tokens", 7, {"max_completion_tokens": 7}),
        ({"max_tokens": None}, "max_completion_tokens", 7, {"max_tokens": None}),
        ({}, "max_completion_tokens", 7, {}),
    ],
)
def test_the_longest_answer_is_said_in_the_upstreams_word_and_cut_to_what_it_can(
    body: dict[str, Any], field: Any, limit: int | None, expected: dict[str, Any]
) -> None:
    shaped = sent(body, make_deployment(token_field=field, max_output_tokens=limit))

    assert fields(shaped) == expected


def test_a_setting_for_the_longest_answer_gives_way_to_the_caller_in_other_words() -> None:
    deployment = make_deployment({"max_completion_tokens": 30})

    assert fields(sent({"max_tokens": 9}, deployment)) == {"max_tokens": 9}
    assert fields(sent({}, deployment)) == {"max_completion_tokens": 30}


def test_legacy_completions_know_one_word_for_the_longest_answer() -> None:
    call = make_call(endpoint="completions", body={"prompt": "a", "max_tokens": 9})

    shaped = shape(call, make_deployment(token_field="max_completion_tokens", max_output_tokens=5), Refusals())

    assert shaped["max_tokens"] == 5
    assert "max_completion_tokens" not in shaped


@pytest.mark.parametrize("code", ["unsupported_parameter", "unsupported_value", "unknown_parameter"])
def test_a_refused_setting_is_not_sent_again(code: str) -> None:
    refusals, deployment = Refusals(), make_deployment({"temperature": 0.6, "seed": 1})

    again = refusals.learn(make_call(), deployment, sent({}, deployment), rejected("temperature", code))

    assert again
    assert fields(sent({}, deployment, refusals=refusals)) == {"seed": 1}
    assert fields(sent({"temperature": 1}, deployment, refusals=refusals)) == {"temperature": 1, "seed": 1}
    assert fields(sent({}, deployment, "precise", refusals)) == {
        "seed": 1,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }


@pytest.mark.parametrize(
    ("param", "code"),
    [
        ("temperature", "invalid_value"),
        ("temperature", None),
        (None, "unsupported_parameter"),
        ("top_p", "unsupported_parameter"),
        ("seed", "unsupported_parameter"),
        ("messages", "unsupported_value"),
    ],
)
def test_what_the_caller_sent_and_other_mistakes_are_its_own_to_mend(param: str | None, code: str | None) -> None:
    refusals, deployment = Refusals(), make_deployment({"temperature": 0.6})

    assert not refusals.learn(
        make_call(body={"seed": 1}), deployment, sent({"seed": 1}, deployment), rejected(param, code)
    )


def test_a_deployment_that_drops_params_learns_from_the_callers_fields_too() -> None:
    refusals, deployment = Refusals(), make_deployment(drop_params=True)

    again = refusals.learn(make_call(body={"seed": 1}), deployment, sent({"seed": 1}, deployment), rejected("seed"))

    assert again
    assert dropped({"seed": 1}, deployment, refusals) == ("seed",)


@pytest.mark.parametrize("name", ["a\r\nb", "ä", "x y", "a,b"])
def test_a_name_that_no_header_could_carry_is_never_learnt(name: str) -> None:
    refusals, deployment = Refusals(), make_deployment(drop_params=True)

    assert not refusals.learn(make_call(body={name: 1}), deployment, sent({name: 1}, deployment), rejected(name))


def test_the_other_word_for_the_longest_answer_is_tried_once() -> None:
    refusals, deployment, call = Refusals(), make_deployment(), make_call(body={"max_tokens": 9})
    first = sent({"max_tokens": 9}, deployment)

    again = refusals.learn(call, deployment, first, rejected("max_tokens"))
    second = sent({"max_tokens": 9}, deployment, refusals=refusals)

    assert again
    assert fields(second) == {"max_completion_tokens": 9}
    assert not refusals.learn(call, deployment, second, rejected("max_completion_tokens"))


def refused(*names: str, clashes: bool = False) -> UpstreamRejected:
    error = rejected(names[0])
    error.fields, error.clashes = names, clashes
    return error


def test_of_several_fields_that_may_be_meant_those_of_the_gateway_are_given_up() -> None:
    deployment, refusals = make_deployment({"presence_penalty": 0.1, "frequency_penalty": 0.1, "seed": 1}), Refusals()
    call = make_call(body={"temperature": 1})
    error = refused("frequency_penalty", "presence_penalty", "temperature")

    again = refusals.learn(call, deployment, shape(call, deployment, refusals), error)

    assert again
    assert fields(shape(call, deployment, refusals)) == {"seed": 1, "temperature": 1}


def test_a_setting_that_clashes_with_the_callers_field_yields_to_it_and_to_nothing_else() -> None:
    deployment, refusals = make_deployment({"temperature": 0.3}), Refusals()
    call = make_call(body={"top_p": 0.9})

    again = refusals.learn(
        call, deployment, shape(call, deployment, refusals), refused("top_p", "temperature", clashes=True)
    )

    assert again
    assert fields(sent({"top_p": 0.5}, deployment, refusals=refusals)) == {"top_p": 0.5}
    assert fields(sent({"top_p": 0.5, "temperature": None}, deployment, refusals=refusals)) == {"top_p": 0.5}
    assert fields(sent({}, deployment, refusals=refusals)) == {"temperature": 0.3}
    assert fields(sent({"temperature": 1}, deployment, refusals=refusals)) == {"temperature": 1}


def test_of_two_settings_that_clash_one_is_kept() -> None:
    deployment, refusals = make_deployment({"temperature": 0.3, "top_p": 0.9}), Refusals()
    call = make_call()

    again = refusals.learn(
        call, deployment, shape(call, deployment, refusals), refused("top_p", "temperature", clashes=True)
    )

    assert again
    assert fields(sent({}, deployment, refusals=refusals)) == {"temperature": 0.3}


@pytest.mark.parametrize("drops", [False, True])
def test_two_fields_of_the_caller_that_clash_are_the_callers_unless_one_may_be_dropped(drops: bool) -> None:
    deployment, refusals = make_deployment(drop_params=drops), Refusals()
    call = make_call(body={"temperature": 1, "top_p": 0.9})
    error = refused("top_p", "temperature", clashes=True)

    again = refusals.learn(call, deployment, shape(call, deployment, refusals), error)
    shaped = shape(call, deployment, refusals)

    assert again is drops
    assert error.param == "top_p"
    assert call.record.dropped == (("top_p",) if drops else ())
    assert ("top_p" in shaped) is not drops
    assert fields(sent({"temperature": 1, "top_p": 0.9}, deployment, refusals=refusals)).keys() == {
        "temperature",
        "top_p",
    }
