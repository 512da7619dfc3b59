"""What is told of a stream and when: not before there is content, no failure missed, no end made up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import UpstreamError, UpstreamOverloaded, UpstreamRejected, UpstreamUnavailable
from gateway.providers import OpenAIWire
from gateway.providers.stream import HOLD_SECONDS
from tests.support.contract import assert_stream_obeys_contract, parse_sse
from tests.support.exchanges import make_exchange, make_patience
from tests.support.upstream import (
    DONE,
    Behaviour,
    Chat,
    Ending,
    Events,
    Inserted,
    Pause,
    ScriptedUpstream,
    encode_event,
    make_error,
)

STREAM = Chat(stream=True)


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    return encode_event(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}
    )


def piece(index: int = 0, end: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": end}


BEGINNINGS = {
    "the role": chunk(piece(role="assistant", content="")),
    "the role alone": chunk(piece(role="assistant")),
    "a report on the prompt": chunk(prompt_filter_results=[{"prompt_index": 0}]),
    "both": chunk(prompt_filter_results=[]) + chunk(piece(role="assistant", content=None)),
    "nulls": chunk(piece(role="assistant", content=None, tool_calls=None, refusal=None)),
}
FAILURES: dict[str, Behaviour] = {
    "an error": Events((encode_event(make_error(503, kind="overloaded_error")), Ending.CLOSE)),
    "an end": Events((b"", Ending.CLOSE)),
    "a reset": Events((b"", Ending.RESET)),
    "no JSON": Events((b"data: {oops\n\n", Ending.HANG)),
}


@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at once", "later"])
@pytest.mark.parametrize("failing", FAILURES)
@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_what_fails_before_anything_was_told_is_no_stream(
    wire: OpenAIWire, upstream: ScriptedUpstream, beginning: str, failing: str, pause: float
) -> None:
    upstream.script(Inserted(Inserted(FAILURES[failing], Pause(pause)), BEGINNINGS[beginning]))

    with pytest.raises(UpstreamError):
        await wire.send(make_exchange(stream=True))


CONTENTS = {
    "text": chunk(piece(content="word")),
    "thoughts": chunk(piece(reasoning_content="hm")),
    "a tool call": chunk(piece(tool_calls=[{"index": 0, "id": "call_1", "function": {"name": "f"}}])),
    "a refusal": chunk(piece(refusal="no")),
    "an end": chunk(piece(end="stop")),
    "text of a completion": chunk({"index": 0, "text": "word"}),
}


@pytest.mark.parametrize("name", CONTENTS)
async def test_content_ends_the_wait_and_the_beginning_comes_before_it(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    beginning = BEGINNINGS["both"]
    upstream.script(Events((beginning, Pause(0.05), CONTENTS[name], Ending.HANG)))

    async with asyncio.timeout(HOLD_SECONDS / 2):
        reply = await wire.send(make_exchange(stream=True))

    async with reply:
        told = await anext(aiter(reply))
    assert told.startswith(beginning)


async def test_a_beginning_is_not_kept_back_for_long(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    beginning = BEGINNINGS["the role"]
    upstream.script(Events((beginning, Ending.HANG)))

    async with asyncio.timeout(HOLD_SECONDS + 0.5):
        async with await wire.send(make_exchange(stream=True)) as reply:
            told = await anext(aiter(reply))

    assert told == beginning


async def test_the_wait_for_content_does_not_count_as_waiting_for_the_first_event(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    patience = make_patience(first_event=0.2)
    upstream.script(Inserted(STREAM, Pause(0.5), 1))

    async with await wire.send(make_exchange(stream=True, patience=patience)) as reply:
        told = b"".join([block async for block in reply])

    assert_stream_obeys_contract(parse_sse(told))


@pytest.mark.parametrize("later", [False, True])
async def test_an_error_of_older_vllm_is_an_error(wire: OpenAIWire, upstream: ScriptedUpstream, *, later: bool) -> None:
    error = {"object": "error", "message": "no such thing", "type": "BadRequestError", "param": None, "code": 400}
    upstream.script(Inserted(Events((encode_event(error), Ending.CLOSE)), BEGINNINGS["the role"] if later else b""))

    with pytest.raises(UpstreamRejected, match="no such thing"):
        await wire.send(make_exchange(stream=True))


@pytest.mark.parametrize("behind", [b": ping\n\n" * 700, chunk(piece(content="after")) * 60], ids=["pings", "chunks"])
async def test_an_error_event_is_found_among_many(wire: OpenAIWire, upstream: ScriptedUpstream, behind: bytes) -> None:
    before = chunk(piece(role="assistant", content="before"))
    failure = encode_event(make_error(503, kind="overloaded_error"))
    upstream.script(Events((before * 40 + failure + behind + chunk(piece(end="stop")),)))

    good = []
    with pytest.raises(UpstreamOverloaded):
        async with await wire.send(make_exchange(stream=True)) as reply:
            async for block in reply:
                good.append(block)

    told = b"".join(good)
    assert (told.count(b"before"), told.count(b"after")) == (40, 0)


ENDS = [chunk(piece(0, "stop")), chunk(piece(1, "length"))]


@pytest.mark.parametrize(
    ("body", "ends", "is_whole"),
    [
        ({"n": 2}, ENDS, True),
        ({"n": 2}, [ENDS[0], chunk(piece(1, content="x")) * 200, ENDS[1]], True),
        ({"n": 2}, ENDS[:1], False),
        ({"n": 2}, [ENDS[0], ENDS[0]], False),
        ({"n": 3}, ENDS, False),
        ({"n": None}, ENDS[:1], True),
    ],
)
async def test_of_several_choices_all_must_be_finished_where_done_is_missing(
    wire: OpenAIWire, upstream: ScriptedUpstream, body: dict[str, Any], ends: list[bytes], *, is_whole: bool
) -> None:
    begin = chunk(piece(0, role="assistant", content="a")) + chunk(piece(1, role="assistant", content="b"))
    upstream.script(Events((begin, *(part for end in ends for part in (end, Pause(0.01))))))
    exchange = make_exchange(stream=True, body={"messages": [], **body})

    if is_whole:
        async with await wire.send(exchange) as reply:
            told = b"".join([block async for block in reply])
        assert told.endswith(DONE)
        assert reply.flaws == ("missing_done",)
        return
    async with await wire.send(exchange) as reply:
        with pytest.raises(UpstreamUnavailable):
            _ = [block async for block in reply]


@pytest.mark.parametrize("prompt", [["one", "two"], [[1, 2], [3]]])
async def test_each_prompt_of_a_completion_has_a_choice_to_finish(
    wire: OpenAIWire, upstream: ScriptedUpstream, prompt: list[Any]
) -> None:
    texts = [chunk({"index": index, "text": "word", "finish_reason": None}) for index in range(2)]
    end = chunk({"index": 0, "text": "", "finish_reason": "stop"})
    upstream.script(Events((*texts, end)))
    exchange = make_exchange(endpoint="completions", stream=True, body={"prompt": prompt})

    async with await wire.send(exchange) as reply:
        with pytest.raises(UpstreamUnavailable):
            _ = [block async for block in reply]
