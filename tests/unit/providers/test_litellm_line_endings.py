"""Why the choices of a stream ended, read off the upstream's own events however they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.providers.litellm_endings import Endings

HALF = "\ud83d"  # of a character


def events(*said: Any, blank: str = "\n\n") -> bytes:
    return "".join(f"data: {json.dumps(one)}{blank}" for one in said).encode()


def named(kind: str, **said: Any) -> bytes:
    return f"event: {kind}\n".encode() + events({"type": kind, **said})


def count(stream: bytes, size: int) -> int:
    endings = Endings()
    for start in range(0, len(stream), size):
        endings.feed(stream[start : start + size])
    return endings.count


def calls(arguments: Any, **more: Any) -> dict[str, Any]:
    parts = [{"functionCall": {"name": "close", "args": arguments}}]
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0, **more}]}


STOP = {"candidates": [{"content": {"parts": [{"text": "}"}]}, "finishReason": "STOP"}]}
TALK = [{"finishReason": "DONE", "blockReason": "SAFETY"}, {"stop_reason": "end", "finish_reason": "stop"}]
STREAMS: list[tuple[str, bytes, int]] = [
    ("a reason in a call's arguments", events(calls({"finishReason": "DONE"})), 0),
    ("candidates in a call's arguments", events(calls({"candidates": [{"finishReason": "STOP"}]})), 0),
    ("each word of every wire in arguments", events(*map(calls, TALK)), 0),
    ("a quoted event", events(calls(json.dumps(STOP))), 0),
    ("a call that ends", events(calls({"finishReason": "DONE"}, finishReason="STOP")), 1),
    ("Google's end", events(STOP), 1),
    ("Google's end after carriage returns", events(STOP, blank="\r\n\r\n"), 1),
    ("Google's end after carriage returns alone", events(STOP, blank="\r\r"), 1),
    ("Google's end without its blank line", events(STOP, blank="\r\n"), 1),
    ("Google's end without any line end", events(STOP, blank=""), 1),
    ("half of Google's end", events(STOP)[:-6], 0),
    ("half a character", events({"candidates": [{"finishReason": "STOP", "text": HALF}]}), 1),
    ("two ends of one choice", events(STOP, STOP), 1),
    ("two choices", events({"candidates": [{"index": i, "finishReason": "STOP"} for i in range(2)]}), 2),
    ("one choice of two", events({"candidates": [{"index": 0}, {"index": 1, "finishReason": "STOP"}]}), 1),
    ("a reason that is null", events({"candidates": [{"finishReason": None}]}), 0),
    ("a blocked prompt", events({"promptFeedback": {"blockReason": "SAFETY"}}), 1),
    ("Anthropic's end", named("message_delta", delta={"stop_reason": "end_turn"}), 1),
    ("Anthropic's beginning", named("message_start", message={"stop_reason": "end_turn"}), 0),
    (
        "Anthropic's arguments",
        named("content_block_start", content_block={"type": "tool_use", "input": {"stop_reason": "end_turn"}}),
        0,
    ),
    ("Anthropic's delta of another kind", named("content_block_delta", delta={"stop_reason": "end_turn"}), 0),
    ("OpenAI's end", events({"choices": [{"index": 0, "finish_reason": "stop"}]}), 1),
    ("nonsense", b'data: {"finishReason":"STOP"\n\ndata: ["finishReason":"STOP"]\n\n: "finishReason":"STOP"\n\n', 0),
    ("strange shapes", events({"candidates": {"finishReason": "STOP"}}, {"delta": "finish", "candidates": ["x"]}), 0),
]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(("stream", "expected"), [case[1:] for case in STREAMS], ids=[case[0] for case in STREAMS])
def test_only_the_upstreams_own_reasons_count(stream: bytes, expected: int, size: int) -> None:
    begun = events({"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]})

    assert count(begun + stream, size) == expected


def test_nothing_is_held_of_events_that_are_whole() -> None:
    endings = Endings()

    endings.feed(events(STOP, STOP) + b"data: {")

    assert endings.pending_bytes == len(b"data: {")
