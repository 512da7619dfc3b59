"""Bad input for the shipped models through the whole gateway: each mistake is told by its field, and harms no model.

After each request the model is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.asking import CHAT, TEXT, ask, post, refusal
from tests.support.command import Gateway

PICTURE = "data:image/png;base64,iVBORw0KGgo="

NESTED = "root ::= " + "(" * 60_000 + '"a"'
HANGING = "root ::= " + "a " * 60 + '\na ::= ("a"? "a"? "a"? "a"? "a"? "a"?)*'
HANGING_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "a", "schema": {"type": "string", "pattern": "^" + "(a?a?a?a?a?a?)*" * 30 + "$"}},
}

MULTIPLYING = 'root ::= a\na ::= "x" a "b" | "x" a "c"'
LISTS = {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}
MULTIPLYING_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "a",
        "schema": {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [LISTS, {**LISTS, "maxItems": 3}]}}},
    },
}


@pytest.fixture(autouse=True)
def unharmed(gateway: Gateway) -> Iterator[None]:
    """See that the model answers after the test, and was never started again."""
    yield
    assert ask(gateway, "chat/completions", {**CHAT, "max_tokens": 1})["choices"]
    assert len([event for event in gateway.events("model_ready") if event["model"] == "local/smollm2"]) == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {**CHAT, "grammar": "root ::= ((("}, "grammar"),
        ("chat/completions", {**CHAT, "grammar": NESTED}, "grammar"),
        ("chat/completions", {**CHAT, "grammar": HANGING}, "grammar"),
        ("completions", {**TEXT, "grammar": HANGING}, "grammar"),
        ("chat/completions", {**CHAT, "response_format": HANGING_FORMAT}, "response_format"),
        ("chat/completions", {**CHAT, "grammar": MULTIPLYING}, "grammar"),
        ("completions", {**TEXT, "grammar": MULTIPLYING}, "grammar"),
        ("chat/completions", {**CHAT, "response_format": MULTIPLYING_FORMAT}, "response_format"),
        ("chat/completions", {**CHAT, "functions": [{"name": "f"}], "function_call": {"name": "f"}}, "functions"),
        ("chat/completions", {**CHAT, "modalities": ["audio"]}, "modalities"),
        ("chat/completions", {**CHAT, "guided_regex": "[0-9]+"}, "guided_regex"),
        (
            "chat/completions",
            {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}}},
            "response_format",
        ),
        (
            "chat/completions",
            {
                **CHAT,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"$ref": "http://127.0.0.1:1/schema.json"}},
                },
            },
            "response_format",
        ),
        ("chat/completions", {**CHAT, "n": 1000}, "n"),
        ("completions", {**TEXT, "n": 1000}, "n"),
        ("completions", {**TEXT, "prompt": [1, 2_000_000]}, "prompt"),
        ("completions", {**TEXT, "prompt": [[2_000_000], [1]]}, "prompt"),
        ("completions", {**TEXT, "prompt": [1, 2**31]}, "prompt[1]"),
        ("completions", {**TEXT, "prompt": [1, -1]}, "prompt[1]"),
        ("completions", {**TEXT, "logit_bias": {"word": 5}}, "logit_bias"),
        ("completions", {**TEXT, "logit_bias": {"-1": 5}}, "logit_bias"),
        ("completions", {**TEXT, "logit_bias": {"7": 500}}, "logit_bias.7"),
        ("chat/completions", {**CHAT, "min_p": 2}, "min_p"),
        ("chat/completions", {**CHAT, "repetition_penalty": -1}, "repetition_penalty"),
        ("chat/completions", {**CHAT, "reasoning_format": "loud"}, "reasoning_format"),
        ("chat/completions", {**CHAT, "max_tokens": 2**31}, "max_tokens"),
        (
            "chat/completions",
            {
                **CHAT,
                "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}],
            },
            "messages",
        ),
        ("embeddings", {"model": "embedding", "input": [1, 2_000_000]}, "input"),
    ],
)
def test_a_bad_request_names_its_field(
    gateway: Gateway, path: str, body: dict[str, Any], param: str, streamed: bool
) -> None:
    error = refusal(gateway, path, {**body, "stream": streamed})

    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_a_bad_prompt_among_good_ones_is_refused(gateway: Gateway) -> None:
    error = refusal(gateway, "completions", {**TEXT, "prompt": [[1], [2_000_000]]})

    assert (error["type"], error["param"]) == ("invalid_request_error", "prompt")


def test_a_bad_prompt_behind_good_ones_ends_a_stream_with_its_error(gateway: Gateway) -> None:
    status, text = post(gateway, "completions", {**TEXT, "prompt": [[1], [2_000_000]], "stream": True})

    assert status == 200
    assert b'"invalid_request_error"' in text
    assert b"[DONE]" not in text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {**CHAT, "documents": 5, "dimensions": 3}),
        ("completions", {**TEXT, "documents": 5, "dimensions": 3}),
        ("embeddings", {"model": "embedding", "input": "a", "documents": 5, "n": 3}),
    ],
)
def test_fields_of_other_endpoints_change_nothing(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    answer = ask(gateway, path, body)

    assert answer.get("choices") or answer.get("data")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": "word " * 2_000_000}]}, "messages"),
        ("completions", {**TEXT, "prompt": "word " * 2_000_000}, "prompt"),
        ("embeddings", {"model": "embedding", "input": "word " * 2_000}, "input"),
    ],
)
def test_a_text_over_the_window_is_refused(gateway: Gateway, path: str, body: dict[str, Any], param: str) -> None:
    headers = {} if path == "embeddings" else {"x_gateway_truncation": "refuse"}  # or it would be cut to what fits

    error = refusal(gateway, path, body, **headers)

    assert (error["code"], error["param"]) == ("context_length_exceeded", param)


def test_an_answer_is_never_longer_than_the_window(gateway: Gateway) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}

    answer = ask(gateway, "chat/completions", {**CHAT, "max_tokens": 10_000_000, "response_format": wanted})

    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_bias_for_a_token_that_there_is_not_changes_nothing(gateway: Gateway) -> None:
    plain = ask(gateway, "completions", TEXT)

    biased = ask(gateway, "completions", {**TEXT, "logit_bias": {"2000000": 100}})

    assert biased["choices"][0]["text"] == plain["choices"][0]["text"]


@pytest.mark.parametrize("model", ["small", "embedding"])
def test_a_model_that_does_not_rank_says_so(gateway: Gateway, model: str) -> None:
    error = refusal(gateway, "rerank", {"model": model, "query": "a", "documents": ["b", {"text": "c"}]})

    assert (error["param"], error["code"]) == ("model", "unsupported_model")
