"""What is said of a request that does not have its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.wire import check_chat, check_completion, check_embedding, parse_object

USER = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "small", "messages": USER, **fields}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "model", "missing_required_parameter"),
        ({"model": "small"}, "messages", "missing_required_parameter"),
        (chat(model=None), "model", "invalid_type"),
        (chat(model=7), "model", "invalid_type"),
        (chat(model=""), "model", "empty_string"),
        (chat(messages="hi"), "messages", "invalid_type"),
        (chat(messages=None), "messages", "invalid_type"),
        (chat(messages=[]), "messages", "empty_array"),
        (chat(messages=["hi"]), "messages[0]", "invalid_type"),
        (chat(messages=[{}]), "messages[0].role", "missing_required_parameter"),
        (chat(messages=[{"role": "robot", "content": "hi"}]), "messages[0].role", "invalid_value"),
        (chat(messages=[{"role": "user"}]), "messages[0].content", "missing_required_parameter"),
        (chat(messages=[{"role": "user", "content": None}]), "messages[0].content", "missing_required_parameter"),
        (chat(messages=[*USER, {"role": "user", "content": 5}]), "messages[1].content", "invalid_type"),
        (
            chat(messages=[{"role": "user", "content": [{}]}]),
            "messages[0].content[0].type",
            "missing_required_parameter",
        ),
        (chat(messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id", "missing_required_parameter"),
        (chat(temperature="hot"), "temperature", "invalid_type"),
        (chat(temperature=2.5), "temperature", "decimal_above_max_value"),
        (chat(top_p=-1), "top_p", "integer_below_min_value"),
        (chat(n=0), "n", "integer_below_min_value"),
        (chat(n=1000), "n", "integer_above_max_value"),
        (chat(n=1.5), "n", "invalid_type"),
        (chat(max_tokens=True), "max_tokens", "invalid_type"),
        (chat(max_tokens=2**40), "max_tokens", "integer_above_max_value"),
        (chat(seed=2.0**70), "seed", "invalid_type"),
        (chat(stream="yes"), "stream", "invalid_type"),
        (chat(stop=5), "stop", "invalid_type"),
        (chat(stop=["a", 5]), "stop[1]", "invalid_type"),
        (chat(tools={}), "tools", "invalid_type"),
        (chat(tools=[{"type": "function", "function": {}}]), "tools[0].function.name", "missing_required_parameter"),
        (chat(tool_choice=5), "tool_choice", "invalid_type"),
        (chat(response_format={}), "response_format.type", "missing_required_parameter"),
        (chat(response_format={"type": "json_schema"}), "response_format.json_schema", "missing_required_parameter"),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": [1]}}),
            "response_format.json_schema.schema",
            "invalid_type",
        ),
        (chat(stream_options={"include_usage": 1}), "stream_options.include_usage", "invalid_type"),
        (chat(logit_bias={"5": "x"}), "logit_bias.5", "invalid_type"),
        (chat(top_logprobs=21), "top_logprobs", "integer_above_max_value"),
    ],
)
def test_a_wrong_chat_request_is_told_its_field(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_chat(body)

    assert (caught.value.param, caught.value.code) == (param, code)
    assert param in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        chat(temperature=None, n=None, stop=None, tools=None, stream=None, stream_options=None, logit_bias=None),
        chat(temperature=1, top_k=40, min_p=0.1, chat_template_kwargs={"x": [1]}, never_heard_of=None),
        chat(
            messages=[
                {"role": "developer", "content": "x"},
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
            ]
        ),
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}]),
        chat(
            messages=[
                *USER,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "a", "content": "1"},
            ]
        ),
        chat(
            messages=[*USER, {"role": "assistant", "content": "x", "annotations": [], "audio": None, "refusal": None}]
        ),
        chat(
            stop=["a"],
            tool_choice="auto",
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        ),
        chat(tool_choice={"type": "function", "function": {"name": "f"}}, seed=-5),
    ],
)
def test_what_clients_really_send_passes(body: dict[str, Any]) -> None:
    before = repr(body)

    check_chat(body)

    assert repr(body) == before


@pytest.mark.parametrize("given_input", ["hi", ["a", "b"], [1, 2, 3], [[1], [2, 3]]])
def test_every_input_form_of_embeddings_passes(given_input: Any) -> None:
    check_embedding({"model": "embedding", "input": given_input, "encoding_format": "base64", "dimensions": 3})


@pytest.mark.parametrize(
    ("given_input", "param"),
    [
        (None, "input"),
        ("", "input"),
        ([], "input"),
        (["a", ""], "input[1]"),
        ([1, "a"], "input[1]"),
        (["a", 1], "input[1]"),
        ([[1], []], "input[1]"),
        ([1, -1], "input[1]"),
        ([1.5], "input[0]"),
        ([True], "input[0]"),
        ({"a": 1}, "input"),
        (["a"] * 2049, "input"),
    ],
)
def test_a_wrong_embedding_input_is_told_its_place(given_input: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_embedding({"model": "embedding", "input": given_input})

    assert caught.value.param == param


def test_an_unknown_encoding_is_told_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="'float' or 'base64'"):
        check_embedding({"model": "embedding", "input": "x", "encoding_format": "int8"})


@pytest.mark.parametrize("prompt", ["hi", ["a", "b"], [1, 2], [[1], [2]], ""])
def test_every_prompt_form_of_completions_passes(prompt: Any) -> None:
    check_completion({"model": "small", "prompt": prompt, "echo": True, "suffix": "x", "logprobs": 3})


def test_a_completion_needs_a_prompt() -> None:
    with pytest.raises(InvalidRequest, match="prompt"):
        check_completion({"model": "small"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("check", [check_chat, check_completion, check_embedding])
@given(
    value=json_values,
    name=st.sampled_from(["model", "messages", "input", "prompt", "stop", "tools", "n", "stream_options"]),
)
def test_no_value_of_any_field_causes_anything_but_a_clear_answer(
    check: Callable[[dict[str, Any]], None], value: Any, name: str
) -> None:
    body = {"model": "small", "messages": USER, "input": "x", "prompt": "x", name: value}

    try:
        check(body)
    except InvalidRequest as error:
        assert error.param is not None
        assert error.code is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b"[1]",
        b'"x"',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":Infinity}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_bytes_that_are_no_sane_object_are_invalid_json(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_object(raw)

    assert caught.value.code == "invalid_json"


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(parse_object(b'{"a":[' + b"[],{}," * 5_000 + b"1]}")["a"]) == 10_001
