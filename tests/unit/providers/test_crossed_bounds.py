"""Putting an answer into the other form takes a moment at most, whatever the upstream sent."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.providers.crossed import LONGEST_STREAM, MOST_EVENTS, to_events, to_whole

DONE = b"data: [DONE]\n\n"
MOMENT_SECONDS = 2.5  # what is bounded takes a tenth to a half; what is not, ten times this and more


def event(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {}, **choice}]}).encode() + b"\n\n"


def fill(piece: bytes) -> bytes:
    """Return as many of `piece` as are read at all, and the end."""
    return piece * min(LONGEST_STREAM // len(piece) - 1, MOST_EVENTS - 1) + DONE


LARGE = {
    "text": event(delta={"content": "x" * 60}),
    "much text": event(delta={"content": "x" * 2000}),
    "a list": event(logprobs={"content": [{}] * 8}),
    "another list": event(delta={"x": [1] * 30}),
    "calls": event(delta={"tool_calls": [{}] * 8}),
    "legacy text": b'data: {"choices": [{"text": "%s"}]}\n\n' % (b"x" * 60),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_longest_stream_becomes_whole_in_a_moment(name: str) -> None:
    body = fill(LARGE[name])
    began = time.process_time()

    whole = to_whole(body)

    assert whole is not None
    assert time.process_time() - began < MOMENT_SECONDS


def test_many_calls_are_told_apart_in_a_moment() -> None:
    pieces = [event(delta={"tool_calls": [{"id": f"call_{number}"}]}) for number in range(20_000)]
    began = time.process_time()

    whole = to_whole(b"".join(pieces) + DONE)

    assert whole is not None
    assert len(whole["choices"][0]["message"]["tool_calls"]) == 20_000
    assert time.process_time() - began < MOMENT_SECONDS


def test_of_more_events_than_any_answer_has_nothing_is_made() -> None:
    piece = event(delta={"content": "x"})

    assert to_whole(piece * (MOST_EVENTS - 1) + DONE) is not None
    assert to_whole(piece * MOST_EVENTS + DONE) is None


def test_lists_and_texts_in_pieces_are_put_together_in_their_order() -> None:
    first = event(delta={"content": "a", "more": {"text": "b", "list": [1]}}, logprobs={"content": [{"token": "a"}]})
    second = event(delta={"content": "c", "more": {"text": "d", "list": [2]}}, logprobs={"content": [{"token": "c"}]})

    whole = to_whole(first + second + DONE)

    assert whole is not None
    choice = whole["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "ac", "more": {"text": "bd", "list": [1, 2]}}
    assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "c"}]}


def test_a_whole_answer_of_countless_choices_becomes_no_stream() -> None:
    completion = {"choices": [{"text": ""}] * (LONGEST_STREAM // 12)}
    began = time.process_time()

    events = to_events(completion, wants_usage=False)

    assert events is None
    assert time.process_time() - began < MOMENT_SECONDS


def test_what_every_event_would_repeat_is_not_repeated_without_end() -> None:
    choices = [{"text": "x"}] * 100

    assert to_events({"id": "x" * (LONGEST_STREAM // 100), "choices": choices}, wants_usage=False) is None
    assert to_events({"id": "x", "choices": choices}, wants_usage=False) is not None
