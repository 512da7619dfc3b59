"""The contract that OpenAI's clients rely on, as checks of what came over the wire.

Written from the contract alone: nothing here may import the product, or it would agree with its mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
_LINE_END = re.compile("\r\n|\n|\r")


def parse_sse(raw: bytes) -> list[str]:
    """Return the data of every event, by the standard's rules: an event without its blank line is lost.

    Raises UnicodeDecodeError when the whole is not UTF-8.
    """
    lines = _LINE_END.split(raw.decode("utf-8-sig"))
    events: list[str] = []
    collected: list[str] = []
    for line in lines[:-1]:  # what stands after the last line end is no line
        name, _, value = line.partition(":")
        if name == "data":
            collected.append(value.removeprefix(" "))
        elif not line and collected:
            events.append("\n".join(collected))
            collected = []
    return events


def read_chunks(events: Sequence[str]) -> list[dict[str, Any]]:
    """Return the JSON objects of a stream's events without its [DONE]."""
    return [json.loads(event) for event in events if event != "[DONE]"]


def join_content(events: Sequence[str], index: int = 0) -> str:
    """Return the text of one choice, as a client puts it together."""
    choices = [choice for chunk in read_chunks(events) for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def assert_stream_obeys_contract(events: Sequence[str], n: int = 1, include_usage: bool = False) -> None:
    """Check a chat stream, given as its events' data, against what every client relies on.

    One constant identity; role first and once per choice; nothing after a choice's one finish reason; ids, names and
    indices of tool calls; usage only when asked, last and alone; [DONE] once and last. `"usage": null` is allowed in
    any chunk, as no client tells it from a missing key.
    """
    assert events, "the stream is empty"
    assert events[-1] == "[DONE]", f"the stream ends with {events[-1]!r}, not with [DONE]"
    assert list(events).count("[DONE]") == 1, "[DONE] comes more than once"
    chunks = read_chunks(events)
    for chunk in chunks:
        assert "error" not in chunk, f"an error event: {chunk}"
        assert chunk.get("object") == "chat.completion.chunk", f"object is {chunk.get('object')!r}"
    _check_identity(chunks)
    _check_usage(chunks, include_usage=include_usage)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert choices, "no chunk has a choice"
    assert choices[0]["index"] == 0, f"the first choice to come is {choices[0]['index']}, not 0"
    assert {choice["index"] for choice in choices} == set(range(n)), f"the choices are not 0 to {n - 1}"
    for index in range(n):
        _check_choice(index, [choice for choice in choices if choice["index"] == index])


def _check_identity(chunks: list[dict[str, Any]]) -> None:
    for key, kind in (("id", str), ("created", int), ("model", str)):
        values = [chunk.get(key) for chunk in chunks]
        assert all(type(value) is kind for value in values), f"{key} is not always {kind.__name__}: {values}"
        assert len(set(values)) == 1, f"{key} changes: {values}"
    assert chunks[0]["id"], "id is empty"


def _check_usage(chunks: list[dict[str, Any]], *, include_usage: bool) -> None:
    last = chunks[-1] if include_usage else None
    if last is not None:
        assert last["choices"] == [], f"the usage chunk has choices: {last['choices']}"
        _check_counts(last.get("usage"))
    for chunk in chunks:
        if chunk is last:
            continue
        assert chunk.get("usage") is None, f"usage where it does not belong: {chunk}"
        assert isinstance(chunk.get("choices"), list), f"choices is not a list: {chunk}"
        assert chunk["choices"], f"empty choices outside of the usage chunk: {chunk}"


def _check_counts(usage: Any) -> None:
    assert isinstance(usage, dict), f"usage is {usage!r}"
    counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")]
    assert all(type(count) is int and count >= 0 for count in counts), f"usage is {usage!r}"


def _check_choice(index: int, choices: list[dict[str, Any]]) -> None:
    deltas = [choice["delta"] for choice in choices]
    roles = [delta["role"] for delta in deltas if delta.get("role") is not None]
    assert roles == ["assistant"], f"choice {index} has the roles {roles}, not assistant once"
    assert deltas[0].get("role") == "assistant", f"choice {index} does not begin with its role"
    reasons = [choice.get("finish_reason") for choice in choices]
    finished = [reason for reason in reasons if reason is not None]
    assert len(finished) == 1, f"choice {index} has the finish reasons {finished}, not one"
    assert finished[0] in FINISH_REASONS, f"choice {index} finishes with {finished[0]!r}"
    assert reasons[-1] is not None, f"choice {index} goes on after its finish reason"
    for delta in deltas:
        _check_delta(index, delta)
    _check_tool_calls(index, [call for delta in deltas for call in delta.get("tool_calls") or []])


def _check_delta(index: int, delta: dict[str, Any]) -> None:
    content = delta.get("content")
    assert content is None or isinstance(content, str), f"choice {index} has the content {content!r}"
    for key, value in delta.items():
        for item in value if isinstance(value, list) else []:
            assert not isinstance(item, dict) or type(item.get("index")) is int, f"{key} has an item without index"


def _check_tool_calls(index: int, pieces: list[dict[str, Any]]) -> None:
    seen: list[int] = []
    for piece in pieces:
        call = piece["index"]
        function = piece.get("function")
        assert isinstance(function, dict), f"choice {index}, call {call}: no function in {piece}"
        if call in seen:
            again = piece.get("id") is not None or function.get("name") is not None
            assert not again, f"choice {index}, call {call}: id or name comes again"
            continue
        assert call == len(seen), f"choice {index}: call {call} comes as number {len(seen)}"
        seen.append(call)
        assert piece.get("id"), f"choice {index}, call {call}: no id"
        assert piece.get("type") == "function", f"choice {index}, call {call}: type {piece.get('type')!r}"
        assert function.get("name"), f"choice {index}, call {call}: no name"


def assert_completion_obeys_contract(body: Any, n: int = 1) -> None:
    """Check a plain chat completion: its required fields, one message and finish reason per choice, usage's counts."""
    assert isinstance(body, dict), f"not an object: {body!r}"
    assert body.get("object") == "chat.completion", f"object is {body.get('object')!r}"
    _check_identity([body])
    assert [choice["index"] for choice in body["choices"]] == list(range(n))
    for choice in body["choices"]:
        message = choice["message"]
        assert message["role"] == "assistant"
        assert message["content"] is None or isinstance(message["content"], str)
        assert choice["finish_reason"] in FINISH_REASONS, f"finish_reason is {choice['finish_reason']!r}"
        for call in message.get("tool_calls") or []:
            assert call["id"]
            assert call["type"] == "function"
            assert isinstance(call["function"]["arguments"], str)
    if body.get("usage") is not None:
        _check_counts(body["usage"])


def assert_error_obeys_contract(body: Any) -> dict[str, Any]:
    """Check that this is OpenAI's error envelope and nothing else; returns the error's object."""
    assert isinstance(body, dict), f"not an object: {body!r}"
    assert set(body) == {"error"}, f"the envelope holds {sorted(body)}"
    error = body["error"]
    assert isinstance(error, dict), f"error is {error!r}"
    assert set(error) == {"message", "type", "param", "code"}, f"the error holds {sorted(error)}"
    assert isinstance(error["message"], str)
    assert error["message"], "the message is empty"
    assert isinstance(error["type"], str)
    for key in ("param", "code"):
        assert error[key] is None or isinstance(error[key], str), f"{key} is {error[key]!r}"
    return error
