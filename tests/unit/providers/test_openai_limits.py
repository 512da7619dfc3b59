"""Limits of time and size of one attempt, and who is to blame when one is reached."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    RequestTimeout,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers import OpenAIWire
from gateway.providers.openai import ERROR_TEXT_SECONDS
from gateway.providers.stream import HOLD_BYTES, HOLD_SECONDS
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience
from tests.support.upstream import (
    Answer,
    Behaviour,
    Ending,
    Events,
    Framing,
    Gate,
    Hang,
    Pause,
    Repeated,
    ScriptedUpstream,
    Status,
    Truncated,
    encode_event,
)

JSON = ("Content-Type", "application/json")
EVENTS = ("Content-Type", "text/event-stream")
LONG_SECONDS = 4.0


def make_chunk(content: str, **more: Any) -> bytes:
    return encode_event({"id": "1", "choices": [{"index": 0, "delta": {"content": content}}], **more})


def spoken(*parts: Any, status: int = 200) -> Answer:
    return Answer(status, (JSON, ("Retry-After", "2")), parts, Framing.CHUNKED)


class Said:
    """A behaviour that is its answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def answer(self, _: object) -> Answer:
        return self._answer


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_the_total_limit_holds_for_an_upstream_that_says_nothing(
    wire: OpenAIWire, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script(Hang())

    with pytest.raises(UpstreamTimeout) as caught:
        async with asyncio.timeout(LONG_SECONDS):
            await wire.send(make_exchange(stream=stream, patience=make_patience(total=SHORT_SECONDS)))

    assert caught.value.message == f"The upstream did not answer within {SHORT_SECONDS:g} seconds."


async def test_the_total_limit_of_a_plain_answer_is_counted_from_asking(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Said(Answer(200, (JSON,), (b'{"choices"', Ending.HANG), Framing.CHUNKED, before_head=(gate,))))
    asking = asyncio.create_task(wire.send(make_exchange(patience=make_patience(total=1.0))))
    await upstream.request()
    began = time.monotonic()
    asyncio.get_running_loop().call_later(0.7, gate.open)

    with pytest.raises(UpstreamTimeout):
        await asking

    assert time.monotonic() - began < 1.4  # from the head on it would be 1.7


async def test_the_total_limit_of_a_stream_is_counted_from_asking(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    parts = (make_chunk("x"), Ending.HANG)
    upstream.script(Said(Answer(200, (EVENTS,), parts, Framing.CHUNKED, before_head=(gate,))))
    asyncio.get_running_loop().call_later(0.7, gate.open)
    began = time.monotonic()

    with pytest.raises(UpstreamTimeout):
        async with await wire.send(make_exchange(stream=True, patience=make_patience(total=1.0))) as reply:
            async for _ in reply:
                pass

    assert time.monotonic() - began < 1.5


async def test_a_beginning_that_tells_nothing_is_not_held_past_the_total_limit(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Events((make_chunk(""), Ending.HANG)))
    began = time.monotonic()

    with pytest.raises(UpstreamTimeout):
        async with await wire.send(make_exchange(stream=True, patience=make_patience(total=SHORT_SECONDS))) as reply:
            async for _ in reply:
                pass

    assert time.monotonic() - began < HOLD_SECONDS


async def test_a_beginning_that_tells_nothing_is_held_to_some_size_only(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Events((Repeated(make_chunk("", junk="x" * 10_000)),)))

    async with await wire.send(make_exchange(stream=True)) as reply:
        first = await anext(aiter(reply))

    assert HOLD_BYTES < len(first) < 2 * HOLD_BYTES


FAILURES: dict[str, tuple[Behaviour, type[GatewayError]]] = {
    "a limit whose text hangs": (Said(spoken(b'{"error"', Ending.HANG, status=429)), UpstreamRateLimited),
    "a limit without a text": (Said(spoken(Ending.HANG, status=429)), UpstreamRateLimited),
    "a limit whose text is cut": (Truncated(Status(429, retry_after="2"), 5), UpstreamRateLimited),
    "a limit whose text is reset": (Said(spoken(b'{"error"', Ending.RESET, status=429)), UpstreamRateLimited),
    "a failure whose text hangs": (Said(spoken(b'{"error"', Ending.HANG, status=500)), UpstreamUnavailable),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_known_by_its_head_when_its_text_does_not_come(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    behaviour, kind = FAILURES[name]
    upstream.script(behaviour)
    began = time.monotonic()

    with pytest.raises(GatewayError) as caught:
        await wire.send(make_exchange(patience=make_patience(plain_answer=60)))

    assert type(caught.value) is kind
    assert caught.value.retry_after == 2
    assert time.monotonic() - began < ERROR_TEXT_SECONDS + 1
    await upstream.closed_by_client() if "hangs" in name else None


@pytest.mark.parametrize("limit", ["plain_answer", "total"])
async def test_a_failure_whose_head_came_in_time_is_known_by_it(
    wire: OpenAIWire, upstream: ScriptedUpstream, limit: str
) -> None:
    upstream.script(Said(spoken(b'{"error"', Ending.HANG, status=429)))

    with pytest.raises(UpstreamRateLimited):
        await wire.send(make_exchange(patience=make_patience(**{limit: SHORT_SECONDS})))


async def test_a_text_that_came_is_read_though_its_body_does_not_end(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    whole = b'{"error":{"message":"pay","code":"insufficient_quota"}}'
    upstream.script(Said(spoken(whole, Ending.HANG, status=429)))

    with pytest.raises(UpstreamRateLimited) as caught:
        await wire.send(make_exchange(patience=make_patience(plain_answer=LONG_SECONDS)))

    assert caught.value.code == "insufficient_quota"


async def test_a_refusal_is_waited_for_as_long_as_an_answer(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    whole = b'{"error":{"message":"too long","code":"context_length_exceeded"}}'
    upstream.script(Said(spoken(whole[:9], Pause(ERROR_TEXT_SECONDS + 0.3), whole[9:], status=400)))

    with pytest.raises(ContextLengthExceeded):
        await wire.send(make_exchange(patience=make_patience(plain_answer=LONG_SECONDS)))


async def test_a_stream_that_nobody_reads_ends_without_blame_on_the_upstream(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Events((Repeated(make_chunk("x" * 3000)),)))

    async with await wire.send(make_exchange(stream=True, patience=make_patience(total=SHORT_SECONDS))) as reply:
        await anext(aiter(reply))
        await upstream.closed_by_client()
        with pytest.raises(RequestTimeout) as caught:
            async for _ in reply:
                pass

    assert caught.value.code == "caller_too_slow"
    assert "took longer than" in caught.value.message


async def test_a_stream_that_is_read_and_never_ends_is_the_upstreams_failure(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Events((Repeated(make_chunk("x"), None, 0.01),)))

    with pytest.raises(UpstreamTimeout) as caught:
        async with await wire.send(make_exchange(stream=True, patience=make_patience(total=SHORT_SECONDS))) as reply:
            async for _ in reply:
                pass

    assert caught.value.code == "upstream_stream_stalled"
