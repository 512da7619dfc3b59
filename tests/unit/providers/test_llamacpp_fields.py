"""Only harmless fields reach a local model."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.providers.llamacpp_fields import restrict

CHAT = {"messages": [], "temperature": 0.5, "max_tokens": 5, "response_format": {"type": "text"}, "stop": None}


def test_openais_fields_and_sampling_settings_pass() -> None:
    body = {**CHAT, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "repeat_last_n": -1, "grammar": "root ::= x"}

    assert restrict(body) == body


def test_fields_that_mean_nothing_to_the_engine_stay_here() -> None:
    assert restrict({**CHAT, "user": "me", "metadata": {}, "never_heard_of": 1}) == CHAT


@pytest.mark.parametrize(
    "name",
    [
        "chat_template",
        "chat_template_kwargs",
        "id_slot",
        "lora",
        "n_discard",
        "n_keep",
        "n_predict",
        "n_probs",
        "speculative.n_max",
    ],
)
def test_t22_t24_fields_that_steer_the_engine_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({**CHAT, name: 1})

    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("name", ["top_k", "min_p", "repeat_last_n", "dry_penalty_last_n", "mirostat_tau"])
@pytest.mark.parametrize("value", [-2, 2**31, 2**63, 1e308, float("nan"), "1", True, [1]])
def test_t24_numbers_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({**CHAT, name: value})

    assert (caught.value.param, caught.value.code) == (name, "invalid_value")


def test_a_repetition_penalty_gets_the_engines_name() -> None:
    assert restrict({**CHAT, "repetition_penalty": 1.2}) == {**CHAT, "repeat_penalty": 1.2}
    assert restrict({"repetition_penalty": 1.2, "repeat_penalty": 1.3}) == {"repeat_penalty": 1.3}


@pytest.mark.parametrize("value", [-1, 11, "1", True])
def test_a_repetition_penalty_out_of_range_is_refused_by_the_callers_name(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({"repetition_penalty": value})

    assert caught.value.param == "repetition_penalty"


@pytest.mark.parametrize("value", [{"7": 1, "0": -100}, {}, None])
def test_biases_of_token_ids_pass(value: Any) -> None:
    assert restrict({"logit_bias": value}) == {"logit_bias": value}


@pytest.mark.parametrize("name", ["word", "-1", "1.5", "", "2147483648", "²"])
def test_biases_of_anything_else_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({"logit_bias": {"7": 1, name: 1}})

    assert caught.value.param == "logit_bias"


@pytest.mark.parametrize("value", ["auto", "none", "deepseek", "deepseek-legacy", None])
def test_forms_of_reasoning_pass(value: Any) -> None:
    assert restrict({"reasoning_format": value}) == {"reasoning_format": value}


@pytest.mark.parametrize("value", ["loud", 1, [], {}])
def test_other_forms_of_reasoning_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="deepseek"):
        restrict({"reasoning_format": value})


def test_documents_reach_the_engine_as_texts() -> None:
    body = {"query": "q", "documents": ["a", {"text": "b", "id": 1}], "top_n": 1, "return_documents": True, "user": "u"}

    assert restrict(body) == {"query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": True}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [], "n": 2},
        {"prompt": "a", "n": 2},
        {"prompt": ["a", "b"]},
        {"prompt": [[1], [2]]},
    ],
)
def test_what_only_streams_tell_wholly_is_asked_for_as_a_stream(body: dict[str, Any]) -> None:
    assert restrict(body) == {**body, "stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [], "n": 1},
        {"messages": [], "n": 2, "stream": True},
        {"prompt": ["a"]},
        {"prompt": [1, 2]},
        {"input": ["a", "b"], "n": 2},
    ],
)
def test_everything_else_is_asked_as_the_caller_did(body: dict[str, Any]) -> None:
    assert restrict(body) == body


def test_the_engine_is_not_told_of_an_echo() -> None:
    streamed = {"stream": True, "stream_options": {"include_usage": True}}

    assert restrict({"prompt": "a", "echo": True}) == {"prompt": "a", "gateway_echo": True, **streamed}
    assert restrict({"prompt": "a", "echo": True, "stream": True}) == {
        "prompt": "a",
        "gateway_echo": True,
        "stream": True,
    }
    assert restrict({"prompt": "a", "echo": False}) == {"prompt": "a"}
