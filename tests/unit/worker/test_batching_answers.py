"""Answers are told in the wire of llama.cpp's server."""

from __future__ import annotations

import json
from typing import Any

from gateway.worker.batching.answers import Teller
from gateway.worker.batching.requests import Manner
from gateway.worker.batching.work import Ending, Piece, Rated, Rating, Timings

TIMINGS = Timings(prompt=10, cached=4, produced=2, prompt_seconds=0.5, produced_seconds=0.25, found=4)
CALL = '<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>'


def teller(count: int = 1, **fields: Any) -> Teller:
    usual = {"is_chat": True, "stream": True, "with_usage": False, "timed": False, "choices": count}
    return Teller(Manner(**{**usual, **fields}), count, model="m", key="k", created=5)


def piece(text: str, rating: Rating | None = None) -> Piece:
    return Piece(text, rating, TIMINGS)


def events(raw: bytes) -> list[Any]:
    texts = [block.removeprefix("data: ") for block in raw.decode().split("\n\n") if block]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def choices(raw: bytes) -> list[Any]:
    return [event["choices"][0] for event in events(raw) if event != "[DONE]" and event["choices"]]


def test_a_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    told = teller()

    first, last = told.piece(0, piece("a")), told.end(0, Ending("length", "b", TIMINGS))

    assert [choice["delta"] for choice in choices(first)] == [{"role": "assistant", "content": None}, {"content": "a"}]
    assert [(one["delta"], one["finish_reason"]) for one in choices(last)] == [({"content": "b"}, None), ({}, "length")]
    assert events(last)[-1] == "[DONE]"
    assert told.is_over


def test_a_stream_of_two_choices_is_over_with_the_last_one() -> None:
    told = teller(2, with_usage=True)

    first, last = told.end(1, Ending("stop", "", TIMINGS)), told.end(0, Ending("stop", "", TIMINGS))

    assert "[DONE]" not in events(first)
    usage = events(last)[-2]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 4, 14)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4}


def test_a_plain_answer_has_its_figures() -> None:
    told = teller(stream=False)
    told.piece(0, piece("Hel"))
    told.end(0, Ending("stop", "lo", TIMINGS))

    answer = json.loads(told.whole())

    assert answer["choices"] == [
        {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Hello"}}
    ]
    assert (answer["id"], answer["model"], answer["created"]) == ("chatcmpl-k", "m", 5)
    timings = answer["timings"]
    assert (timings["prompt_n"], timings["cache_n"], timings["predicted_n"]) == (6, 4, 2)
    assert (timings["prompt_per_second"], timings["predicted_per_second"]) == (12.0, 8.0)


def test_each_token_is_told_with_its_rivals() -> None:
    told = teller()
    rating = Rating(Rated(7, b"\xf0\x9f", -0.5), (Rated(7, b"\xf0\x9f", -0.5), Rated(8, b"x", -1e9)))

    (_, choice) = choices(told.piece(0, piece("", rating)))

    (token,) = choice["logprobs"]["content"]
    assert (token["id"], token["bytes"], token["logprob"]) == (7, [0xF0, 0x9F], -0.5)
    assert [rival["logprob"] for rival in token["top_logprobs"]] == [-0.5, -9999.0]


def test_a_call_of_a_tool_is_no_content() -> None:
    told = teller(calls=True)

    raw = told.piece(0, piece(f"Well. {CALL}")) + told.end(0, Ending("stop", "", TIMINGS))

    *_, call, last = choices(raw)
    (first,) = call["delta"]["tool_calls"]
    assert (first["index"], first["type"], first["function"]) == (
        0,
        "function",
        {"name": "look", "arguments": '{"at": 1}'},
    )
    assert last["finish_reason"] == "tool_calls"
    message = json.loads(told.whole())["choices"][0]["message"]
    assert (message["content"], len(message["tool_calls"])) == ("Well.", 1)


def test_one_call_is_told_where_only_one_is_wanted() -> None:
    told = teller(calls=True, one_call=True)

    told.end(0, Ending("stop", CALL + CALL, TIMINGS))

    assert len(json.loads(told.whole())["choices"][0]["message"]["tool_calls"]) == 1


def test_thoughts_are_told_apart() -> None:
    told = teller(thinks="inside")

    told.end(0, Ending("stop", "why</think>so", TIMINGS))

    message = json.loads(told.whole())["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("why", "so")


def test_a_completion_is_told_as_one_with_its_usage() -> None:
    told = teller(2, is_chat=False, choices=1, echoes=("A", "B"))

    raw = b"".join(told.end(index, Ending("length", "x", TIMINGS)) for index in (0, 1))

    texts = [(choice["index"], choice["text"], choice["finish_reason"]) for choice in choices(raw)]
    assert texts == [
        (0, "A", None),
        (0, "x", None),
        (0, "", "length"),
        (1, "B", None),
        (1, "x", None),
        (1, "", "length"),
    ]
    assert [event["usage"]["prompt_tokens"] for event in events(raw)[:-1] if "usage" in event] == [10, 10]
    answer = json.loads(told.whole())
    assert [choice["text"] for choice in answer["choices"]] == ["Ax", "Bx"]
    assert answer["usage"]["prompt_tokens"] == 20


def test_an_answer_that_is_not_streamed_makes_no_events() -> None:
    told = teller(stream=False)

    assert (told.piece(0, piece("a")), told.end(0, Ending("stop", "b", TIMINGS))) == (b"", b"")
    assert json.loads(told.whole())["choices"][0]["message"]["content"] == "ab"


def test_what_an_answer_shares_with_its_leader_was_not_there_before() -> None:
    follower = Timings(prompt=10, cached=9, produced=1, prompt_seconds=0.5, produced_seconds=0.25, found=4)
    told = teller(2, is_chat=False)

    last = told.end(1, Ending("stop", "", follower))

    assert events(last)[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
