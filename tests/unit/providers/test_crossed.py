"""A whole completion and the stream that tells the same become each other; what makes no sense becomes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.crossed import LONGEST_STREAM, to_events, to_whole
from tests.support.contract import assert_stream_obeys_contract, parse_sse
from tests.support.upstream import FORMS, make_usage

DONE = b"data: [DONE]\n\n"
FULL: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello",
                "refusal": None,
                "reasoning_content": "Hm",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}},
                    {"id": "b", "type": "function", "function": {"name": "walk", "arguments": "{}"}},
                ],
            },
            "logprobs": {"content": [{"token": "Hello", "logprob": -0.1}]},
            "finish_reason": "tool_calls",
        },
        {"index": 1, "message": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": "length"},
    ],
    "usage": make_usage(),
}


def chunk(delta: dict[str, Any] | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": None, **fields}
    return b"data: " + json.dumps({"id": "c", "model": "m", "created": 1, "choices": [choice]}).encode() + b"\n\n"


END = chunk(finish_reason="stop") + DONE


def whole_of(*parts: bytes) -> dict[str, Any]:
    found = to_whole(b"".join(parts))
    assert found is not None
    return found


def message_of(*parts: bytes) -> dict[str, Any]:
    message: dict[str, Any] = whole_of(*parts)["choices"][0]["message"]
    return message


def test_a_completion_becomes_a_stream_that_obeys_the_contract() -> None:
    events = to_events(FULL, wants_usage=True)

    assert events is not None
    assert_stream_obeys_contract(parse_sse(events), n=2, include_usage=True)


def test_there_and_back_nothing_is_lost() -> None:
    events = to_events(FULL, wants_usage=True)

    assert events is not None
    back = whole_of(events)
    first = back["choices"][0]
    told = {key: value for key, value in FULL["choices"][0]["message"].items() if value is not None}
    assert first["message"] == told
    assert (first["logprobs"], first["finish_reason"]) == (FULL["choices"][0]["logprobs"], "tool_calls")
    assert {**back, "choices": []} == {**FULL, "choices": []}


def test_a_legacy_completion_goes_there_and_back() -> None:
    legacy = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "Hi", "logprobs": {"tokens": ["Hi"]}, "finish_reason": "length"}],
    }

    events = to_events(legacy, wants_usage=False)

    assert events is not None
    assert to_whole(events) == legacy


@pytest.mark.parametrize(
    "completion",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": "text"},
        {"choices": [1]},
        {"choices": [{}]},
        {"choices": [{"message": "text"}]},
        {"choices": [{"text": 1}]},
        {"choices": [{"message": {}}, {"text": None}]},
    ],
    ids=str,
)
def test_what_is_no_completion_becomes_no_stream(completion: dict[str, Any]) -> None:
    assert to_events(completion, wants_usage=True) is None


def test_a_completion_without_a_reason_or_usage_still_ends_well() -> None:
    events = to_events({"choices": [{"message": {"content": "x"}}], "usage": "many"}, wants_usage=True)

    assert events is not None
    chunks = [json.loads(event) for event in parse_sse(events)[:-1]]
    assert [each["choices"][0]["finish_reason"] for each in chunks] == [None, None, "stop"]
    assert all("usage" not in each for each in chunks)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_events_is_read(name: str) -> None:
    payloads = [event[6:-2] for event in (chunk({"content": "Hel"}), chunk({"content": "lo"}), END[: -len(DONE)])]
    body = b"".join(FORMS[name].write(each, first=place == 0) for place, each in enumerate([*payloads, b"[DONE]"]))

    assert message_of(body)["content"] == "Hello"


def test_what_comes_after_the_end_is_not_read() -> None:
    assert message_of(chunk({"content": "x"}), END, b"data: nonsense\n\n")["content"] == "x"


def test_a_finished_stream_needs_no_done_and_a_done_stream_no_reason() -> None:
    assert whole_of(chunk({"content": "x"}, finish_reason="length"))["choices"][0]["finish_reason"] == "length"
    assert whole_of(chunk({"content": "x"}), DONE)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b": comment\n\n",
        DONE,
        b"data: [1]\n\n" + DONE,
        b"data: {\n\n",
        chunk({"content": "half"}),
        chunk({"content": "a"}, finish_reason="stop") + chunk({"content": "b"}, index=1),
        b'data: {"choices":7}\n\n' + DONE,
        b'data: {"choices":[7]}\n\n' + DONE,
        b'data: {"choices":[{}]}\n\n' + DONE,
        b'data: {"choices":[{"index":"0","delta":{}}]}\n\n' + DONE,
        b'data: {"choices":[{"delta":"x"}]}\n\n' + DONE,
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n' + DONE,
    ],
    ids=range(13),
)
def test_what_is_no_whole_stream_becomes_nothing(body: bytes) -> None:
    assert to_whole(body) is None


def test_a_stream_that_would_hold_up_everybody_is_not_read() -> None:
    piece = chunk({"content": "x" * 1000})

    assert to_whole(piece * (LONGEST_STREAM // len(piece) + 1) + END) is None
    assert to_whole(piece * (LONGEST_STREAM // len(piece) - 1) + END) is not None


def test_an_error_event_is_given_back_as_it_is() -> None:
    error = {"error": {"message": "x", "code": "rate_limit_exceeded"}}

    assert to_whole(chunk({"content": "x"}) + b"data: " + json.dumps(error).encode() + b"\n\n") == error


def test_roles_and_names_that_come_in_every_piece_are_told_once() -> None:
    def call(arguments: str) -> dict[str, Any]:
        function = {"name": "look", "arguments": arguments}
        return {"role": "assistant", "tool_calls": [{"index": 0, "id": "a", "type": "function", "function": function}]}

    message = message_of(chunk(call('{"x"')), chunk(call(":1}")), END)

    assert message["role"] == "assistant"
    assert message["tool_calls"] == [
        {"type": "function", "id": "a", "function": {"name": "look", "arguments": '{"x":1}'}}
    ]


def test_calls_without_a_place_are_told_apart_by_their_ids() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"tool_calls": [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}]}

    calls = message_of(chunk(call("a")), chunk(call("b")), END)["tool_calls"]

    assert [each["function"]["name"] for each in calls] == ["a", "b"]


@pytest.mark.parametrize("reason", [None, "", 7, {"a": 1}, ["stop"]])
def test_the_reason_is_always_a_word(reason: Any) -> None:
    whole = whole_of(chunk({"content": "x"}, finish_reason=reason), DONE)
    events = to_events({"choices": [{"message": {"content": "x"}, "finish_reason": reason}]}, wants_usage=False)

    assert whole["choices"][0]["finish_reason"] == "stop"
    assert events is not None
    assert b'"finish_reason":"stop"' in events


@pytest.mark.parametrize("pieces", [[None], [7], ["x"], [[]], [{"index": -5}], [{"index": 10**9}], [{"index": "0"}]])
def test_odd_pieces_of_calls_break_nothing(pieces: list[Any]) -> None:
    assert to_whole(chunk({"tool_calls": pieces}) + END) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "message",
                    "text",
                    "tool_calls",
                    "content",
                    "function",
                    "logprobs",
                    "usage",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=4))
def test_no_stream_breaks_it(payloads: list[Any]) -> None:
    body = b"".join(b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads) + DONE

    found = to_whole(body)

    assert found is None or "choices" in found or found["error"]


@given(st.lists(st.dictionaries(st.sampled_from(["delta", "text", "index"]), json_values), max_size=4))
def test_no_choices_break_it(choices: list[Any]) -> None:
    found = to_whole(b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n" + DONE)

    assert found is None or found["choices"]


@given(st.lists(st.dictionaries(st.sampled_from(["message", "text", "index"]), json_values), max_size=4))
def test_no_completion_breaks_it(choices: list[Any]) -> None:
    events = to_events({"choices": choices}, wants_usage=True)

    assert events is None or events.endswith(DONE)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(body: bytes) -> None:
    to_whole(body)
