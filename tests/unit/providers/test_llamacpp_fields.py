"""Only harmless fields reach a local model."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.providers.llamacpp_fields import restrict

WRITING = "chat/completions"
CHAT = {"messages": [], "temperature": 0.5, "max_tokens": 5, "response_format": {"type": "text"}, "stop": None}


def endpoint_of(body: dict[str, Any]) -> str:
    return {"messages": WRITING, "prompt": "completions", "input": "embeddings"}[next(iter(body))]


def test_openais_fields_and_sampling_settings_pass() -> None:
    body = {**CHAT, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "repeat_last_n": -1, "grammar": "root ::= x"}

    assert restrict(body, WRITING) == body


def test_fields_that_mean_nothing_to_the_engine_stay_here() -> None:
    assert restrict({**CHAT, "user": "me", "metadata": {}, "never_heard_of": 1}, WRITING) == CHAT


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
        restrict({**CHAT, name: 1}, WRITING)

    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("name", ["top_k", "min_p", "repeat_last_n", "dry_penalty_last_n", "mirostat_tau"])
@pytest.mark.parametrize("value", [-2, 2**31, 2**63, 1e308, float("nan"), "1", True, [1]])
def test_t24_numbers_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({**CHAT, name: value}, WRITING)

    assert (caught.value.param, caught.value.code) == (name, "invalid_value")


def test_a_repetition_penalty_gets_the_engines_name() -> None:
    assert restrict({**CHAT, "repetition_penalty": 1.2}, WRITING) == {**CHAT, "repeat_penalty": 1.2}
    assert restrict({"repetition_penalty": 1.2, "repeat_penalty": 1.3}, WRITING) == {"repeat_penalty": 1.3}


@pytest.mark.parametrize("value", [-1, 11, "1", True])
def test_a_repetition_penalty_out_of_range_is_refused_by_the_callers_name(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({"repetition_penalty": value}, WRITING)

    assert caught.value.param == "repetition_penalty"


@pytest.mark.parametrize("value", [{"7": 1, "0": -100}, {}, None])
def test_biases_of_token_ids_pass(value: Any) -> None:
    assert restrict({"logit_bias": value}, WRITING) == {"logit_bias": value}


@pytest.mark.parametrize("name", ["word", "-1", "1.5", "", "2147483648", "²"])
def test_biases_of_anything_else_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({"logit_bias": {"7": 1, name: 1}}, WRITING)

    assert caught.value.param == "logit_bias"


@pytest.mark.parametrize("value", ["auto", "none", "deepseek", "deepseek-legacy", None])
def test_forms_of_reasoning_pass(value: Any) -> None:
    assert restrict({"reasoning_format": value}, WRITING) == {"reasoning_format": value}


@pytest.mark.parametrize("value", ["loud", 1, [], {}])
def test_other_forms_of_reasoning_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="deepseek"):
        restrict({"reasoning_format": value}, WRITING)


def test_documents_reach_the_engine_as_texts() -> None:
    body = {"query": "q", "documents": ["a", {"text": "b", "id": 1}], "top_n": 1, "return_documents": True, "user": "u"}

    assert restrict(body, "rerank") == {"query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": True}


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
    assert restrict(body, endpoint_of(body)) == {**body, "stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [], "n": 1},
        {"messages": [], "n": 2, "stream": True},
        {"prompt": ["a"]},
        {"prompt": [1, 2]},
        {"input": ["a", "b"]},
    ],
)
def test_everything_else_is_asked_as_the_caller_did(body: dict[str, Any]) -> None:
    assert restrict(body, endpoint_of(body)) == body


def test_the_engine_is_not_told_of_an_echo() -> None:
    streamed = {"stream": True, "stream_options": {"include_usage": True}}

    assert restrict({"prompt": "a", "echo": True}, "completions") == {"prompt": "a", "gateway_echo": True, **streamed}
    assert restrict({"prompt": "a", "echo": True, "stream": True}, "completions") == {
        "prompt": "a",
        "gateway_echo": True,
        "stream": True,
    }
    assert restrict({"prompt": "a", "echo": False}, "completions") == {"prompt": "a"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("modalities", ["audio"]),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("web_search_options", {}),
        ("verbosity", "low"),
        ("guided_json", {"type": "object"}),
        ("guided_regex", "[0-9]+"),
        ("min_tokens", 12),
        ("bad_words", ["x"]),
    ],
)
def test_what_would_change_the_answer_and_is_not_done_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({**CHAT, name: value}, WRITING)

    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", None),
        ("function_call", "auto"),
        ("modalities", ["text"]),
        ("audio", None),
        ("verbosity", "medium"),
        ("min_tokens", 0),
        ("service_tier", "auto"),
        ("store", True),
        ("prediction", {"type": "content", "content": "x"}),
        ("safety_identifier", "me"),
        ("prompt_cache_key", "k"),
    ],
)
def test_what_asks_for_nothing_stays_here(name: str, value: Any) -> None:
    assert restrict({**CHAT, name: value}, WRITING) == CHAT


@pytest.mark.parametrize(("name", "value"), [("rank_fields", ["title"]), ("max_tokens_per_doc", 100)])
def test_what_ranking_does_not_do_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({"query": "q", "documents": ["a"], name: value}, "rerank")

    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("endpoint", "body", "stray"),
    [
        (WRITING, CHAT, {"documents": 5, "dimensions": 3, "input": 1, "prompt": {}, "query": 1}),
        ("completions", {"prompt": "a"}, {"documents": 5, "dimensions": 3, "input": [], "top_n": "x"}),
        ("embeddings", {"input": "a"}, {"documents": 5, "n": "x", "stream": True, "prompt": 1, "logit_bias": 3}),
        ("rerank", {"query": "q", "documents": ["a"]}, {"n": 4, "encoding_format": "base64", "echo": True}),
    ],
)
def test_fields_of_other_endpoints_are_not_read(endpoint: str, body: dict[str, Any], stray: dict[str, Any]) -> None:
    assert restrict({**body, **stray}, endpoint) == body


def test_what_a_model_does_not_survive_is_not_sent_to_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({**CHAT, "grammar": "root ::= ((a?)*)*\na ::= [a]"}, WRITING)

    assert caught.value.param == "grammar"
