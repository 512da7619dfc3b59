"""Pieces of litellm's streams as chunks of OpenAI's, without an upstream."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson

from gateway.call import Usage
from gateway.providers.litellm_chunks import Chunks


def call(told_id: str | None, name: str | None, arguments: str | None, index: int | None = 0) -> SimpleNamespace:
    return SimpleNamespace(id=told_id, index=index, function=SimpleNamespace(name=name, arguments=arguments))


def piece(finish: str | None = None, index: int = 0, **delta: Any) -> SimpleNamespace:
    choice = SimpleNamespace(index=index, delta=SimpleNamespace(**delta), finish_reason=finish)
    return SimpleNamespace(id="r1", created=5, choices=[choice])


def counted(prompt: int, completion: int, cached: int | None = None) -> SimpleNamespace:
    details = SimpleNamespace(cached_tokens=cached)
    usage = SimpleNamespace(prompt_tokens=prompt, completion_tokens=completion, prompt_tokens_details=details)
    return SimpleNamespace(id="r1", created=5, choices=[], usage=usage)


def choices_of(chunks: Chunks, *pieces: Any) -> list[dict[str, Any]]:
    events = (b"".join(chunks.feed(each) for each in pieces) + chunks.closing()).split(b"\n\n")
    return [orjson.loads(event.removeprefix(b"data: "))["choices"][0] for event in events[:-2]]


def test_the_ids_and_names_of_calls_are_said_once() -> None:
    chunks = Chunks("m", wants_usage=False)
    pieces = [call("c1", "add", '{"a'), call("c1", "add", '":1'), call(None, None, "}"), call("c2", "sub", "{}")]

    choices = choices_of(chunks, *(piece(tool_calls=[each]) for each in pieces), piece("stop"))

    assert [choice["delta"]["tool_calls"][0] for choice in choices[1:-1]] == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a'}},
        {"index": 0, "function": {"arguments": '":1'}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
    ]
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_the_indexes_of_calls_begin_at_zero_without_gaps() -> None:
    chunks = Chunks("m", wants_usage=False)
    pieces = [call("c1", "add", "", index=3), call("c2", "sub", "", index=7), call(None, None, "{}", index=3)]

    choices = choices_of(chunks, *(piece(tool_calls=[each]) for each in pieces), piece("tool_calls"))

    assert [choice["delta"]["tool_calls"][0]["index"] for choice in choices[1:-2]] == [0, 1, 0]


def test_a_call_that_is_given_no_arguments_has_none_by_the_end() -> None:
    chunks = Chunks("m", wants_usage=False)
    pieces = [call("c1", "now", "", index=0), call("c2", "add", "", index=1), call(None, None, "{}", index=1)]

    choices = choices_of(chunks, *(piece(tool_calls=[each]) for each in pieces), piece("tool_calls"))

    assert choices[-2]["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]
    assert len(choices) == 6


def test_the_older_form_of_pieces_is_understood() -> None:
    chunks = Chunks("m", wants_usage=False)
    empty = {"text": "", "is_finished": False, "finish_reason": "", "index": 0, "usage": None, "tool_use": None}

    nothing = chunks.feed(empty)
    choices = choices_of(
        chunks, {**empty, "text": "Hi"}, {**empty, "text": "!", "is_finished": True, "finish_reason": "max_tokens"}
    )

    assert nothing == b""
    assert [choice["delta"].get("content") for choice in choices] == ["", "Hi", "!", None]
    assert choices[-1]["finish_reason"] == "length"


def test_the_larger_figure_of_several_usages_counts() -> None:
    chunks = Chunks("m", wants_usage=True)
    chunks.feed(piece("stop", content="Hi"))

    for told in (counted(10, 1, cached=4), counted(0, 7, cached=0), counted(10, 5)):
        chunks.feed(told)

    assert chunks.usage == Usage(10, 7, 4)
    assert b'"total_tokens":17' in chunks.closing()


def test_a_stop_does_not_take_back_why_a_choice_ended() -> None:
    chunks = Chunks("m", wants_usage=False)

    choices = choices_of(chunks, piece("length", content="Hi"), piece("stop", content=""))

    assert choices[-1]["finish_reason"] == "length"


def test_a_stream_is_finished_when_all_its_choices_are() -> None:
    chunks = Chunks("m", wants_usage=False)

    told = []
    for each in (piece(content="a"), piece(index=1, content="b"), piece("stop"), piece("stop", index=1)):
        chunks.feed(each)
        told.append(chunks.is_finished)

    assert told == [False, False, False, True]


def test_thoughts_have_one_name_whatever_the_upstream_calls_them() -> None:
    chunks = Chunks("m", wants_usage=False)
    usage = SimpleNamespace(
        prompt_tokens=3, completion_tokens=4, completion_tokens_details=SimpleNamespace(reasoning_tokens=0)
    )
    told = SimpleNamespace(id="r1", created=5, choices=[], usage=usage)

    choices = choices_of(chunks, piece(reasoning="Hm"), piece(reasoning="", content="So"), piece("stop"), told)

    assert [choice["delta"] for choice in choices[1:3]] == [{"reasoning_content": "Hm"}, {"content": "So"}]
    assert chunks.usage == Usage(3, 4)


def test_thoughts_that_have_both_names_are_said_once() -> None:
    choices = choices_of(Chunks("m", wants_usage=False), piece(reasoning="Hm", reasoning_content="Hm"), piece("stop"))

    assert [choice["delta"] for choice in choices[1:]] == [{"reasoning_content": "Hm"}, {}]
