"""Row F45: a whole answer where a stream was asked for, and a stream where a whole answer was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.contract import assert_stream_obeys_contract
from tests.support.drill import BROKEN_TEXT, Drill
from tests.support.upstream import Body, Chat, Completion, Events, ToolCall, Typed, make_usage
from tests.support.verdicts import is_answered_by_the_sound_one

CROSSED = pytest.mark.fault("F45", "a whole answer for a stream, a stream for a whole answer")
WRONG = pytest.mark.fault("F45", "the other form, and it makes no sense")
FAILED = pytest.mark.fault("F45", "the other form, and it tells an error")
WHOLE = pytest.mark.parametrize("kind", ["chat"], indirect=True)
STREAMED = pytest.mark.parametrize("kind", ["stream"], indirect=True)
CALLS = (ToolCall("look", '{"at":"the sea"}', "call_1"), ToolCall("walk", '{"to":"the hill"}', "call_2"))


@CROSSED
@STREAMED
async def test_f45_a_whole_answer_becomes_the_stream_that_was_asked_for(alone: Drill) -> None:
    alone.broken.otherwise = Chat(BROKEN_TEXT, stream=False)

    seen = await alone.ask()
    asked = await alone.gateway.chat(stream=True, stream_options={"include_usage": True})

    assert (seen.status, seen.by, seen.text, seen.error) == (200, "broken", BROKEN_TEXT, None)
    assert all("usage" not in json.loads(event) for event in seen.answer.events[:-1])
    assert_stream_obeys_contract(asked.events, include_usage=True)
    assert json.loads(asked.events[-2])["usage"] == make_usage()
    figures = await alone.gateway.figures()
    assert figures[("gateway_tokens_total", "completion", "small")] == 24


@CROSSED
@STREAMED
async def test_f45_tool_calls_of_a_whole_answer_are_streamed_with_their_places(alone: Drill) -> None:
    alone.broken.otherwise = Chat(None, stream=False, tool_calls=CALLS)

    seen = await alone.ask()

    choices = [json.loads(event)["choices"][0] for event in seen.answer.events[:-1]]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert calls == [{"index": place, **call.whole()} for place, call in enumerate(CALLS)]
    assert choices[0]["delta"] == {"role": "assistant", "content": None}
    assert [choice["finish_reason"] for choice in choices] == [None, None, "tool_calls"]


@CROSSED
@WHOLE
async def test_f45_a_stream_becomes_the_whole_answer_that_was_asked_for(alone: Drill) -> None:
    alone.broken.otherwise = Chat(("Hel", "lo"), stream=True, tool_calls=CALLS, n=2, usage_unasked=True, reasoning="Hm")

    seen = await alone.ask(n=2)

    assert (seen.status, seen.by, seen.text) == (200, "broken", "Hello")
    whole = seen.answer.json
    assert whole["object"] == "chat.completion"
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["Hello", "Hello #1"]
    assert [choice["message"]["tool_calls"] for choice in whole["choices"]] == [[call.whole() for call in CALLS]] * 2
    assert {choice["message"]["reasoning_content"] for choice in whole["choices"]} == {"Hm"}
    assert {choice["finish_reason"] for choice in whole["choices"]} == {"tool_calls"}
    assert whole["usage"] == make_usage()
    figures = await alone.gateway.figures()
    assert figures[("gateway_tokens_total", "completion", "small")] == 12


@CROSSED
@pytest.mark.parametrize("kind", ["chat"], indirect=True)
@pytest.mark.parametrize("stream", [True, False])
async def test_f45_legacy_completions_are_put_into_the_other_form_too(alone: Drill, stream: bool) -> None:
    alone.broken.otherwise = Completion(("Hel", "lo"), stream=not stream)

    answer = await alone.gateway.post("completions", {"model": "small", "prompt": ["a", "b"]}, stream=stream)

    assert answer.status == 200
    chunks = [json.loads(event) for event in answer.events[:-1]] if stream else [answer.json]
    texts: dict[int, str] = {}
    for chunk in chunks:
        assert chunk["object"] == "text_completion"
        for choice in chunk["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert texts == {0: "Hello", 1: "Hello"}


@WRONG
@WHOLE
@pytest.mark.parametrize(
    "stream",
    [
        Events((b"data: nonsense\n\n",)),
        Events((b"",)),
        Events((b": only a comment\n\n",)),
        Events((b"data: [DONE]\n\n",)),
        Chat(("half",), stream=True, finish_reason=None, done=False),
        Chat(("half",), stream=True, n=2, finish_reason=None, done=False),
        Events((b'data: {"choices":"none"}\n\ndata: [DONE]\n\n',)),
    ],
    ids=["no JSON", "empty", "a comment", "the end only", "cut", "cut twice", "no list"],
)
async def test_f45_what_is_no_whole_stream_is_an_error_and_another_answers(pair: Drill, stream: Any) -> None:
    pair.broken.otherwise = stream

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@WRONG
@WHOLE
async def test_f45_alone_half_a_stream_is_never_a_whole_answer(alone: Drill) -> None:
    alone.broken.otherwise = Chat(("half",), stream=True, finish_reason=None, done=False)

    seen = await alone.ask()

    assert (seen.status, seen.code) == (502, "upstream_bad_response")
    assert b"half" not in seen.answer.body


@WRONG
@STREAMED
async def test_f45_alone_a_whole_answer_that_is_none_is_an_error(alone: Drill) -> None:
    alone.broken.otherwise = Body(b'{"object":"list","data":[]}')

    seen = await alone.ask()

    assert (seen.status, seen.code) == (502, "upstream_protocol_error")


@WRONG
@pytest.mark.parametrize("kind", ["embeddings"], indirect=True)
async def test_f45_vectors_never_come_as_events(pair: Drill) -> None:
    pair.broken.otherwise = Typed(Chat(stream=True), "text/event-stream")

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@FAILED
@STREAMED
async def test_f45_an_error_in_a_whole_answer_keeps_its_own_status(alone: Drill) -> None:
    alone.broken.otherwise = Chat(stream=False, extra={"error": {"message": "slow", "code": "rate_limit_exceeded"}})

    seen = await alone.ask()

    assert (seen.status, seen.code) == (429, "upstream_rate_limited")


@FAILED
@WHOLE
async def test_f45_an_error_event_where_a_whole_answer_was_asked_keeps_its_own_status(alone: Drill) -> None:
    alone.broken.otherwise = Events((b'data: {"error":{"message":"slow","code":"rate_limit_exceeded"}}\n\n',))

    seen = await alone.ask()

    assert (seen.status, seen.code) == (429, "upstream_rate_limited")
