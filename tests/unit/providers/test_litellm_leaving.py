"""What becomes of the upstream's connection when a call through litellm is left, late or cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from gateway.errors import EndpointNotServed, UpstreamTimeout, UpstreamUnavailable
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience

MODEL = "claude-haiku-4-5"
BEGIN = b"""event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[],\
"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}

"""
TEXT = b"""event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

"""
STOP = b"""event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}

"""


class Patient:
    """Says `said` and then nothing more; with nothing to say it does not even begin to answer."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.cuts = False
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.asked.set()
        try:
            if self.said:
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await response.prepare(request)
                for piece in self.said:
                    await response.write(piece)
            if self.cuts and request.transport is not None:
                request.transport.abort()
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError


@pytest.fixture
async def upstream() -> Patient:
    return Patient()


@pytest.fixture
async def lane(upstream: Patient) -> AsyncIterator[LiteLLM]:
    app = web.Application()
    app.router.add_post("/v1/messages", upstream.handle)
    server = TestServer(app)
    await server.start_server()
    provider = make_lane(str(server.make_url("/")))
    await provider.prepare()
    yield provider
    await provider.close()
    await server.close()


def make_lane(url: str) -> LiteLLM:
    return LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix="anthropic", base_url=url, api_key="sk-ant-canary"))


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_a_call_closes_the_upstream_at_once(upstream: Patient, lane: LiteLLM, stream: bool) -> None:
    task = asyncio.create_task(lane.send(make_exchange(model=MODEL, stream=stream)))
    await upstream.asked.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(upstream.left.wait(), 1)


async def test_leaving_a_stream_closes_the_upstream_at_once(upstream: Patient, lane: LiteLLM) -> None:
    upstream.said = [BEGIN, TEXT]

    async with await lane.send(make_exchange(model=MODEL, stream=True)) as reply:
        await anext(aiter(reply))

    await asyncio.wait_for(upstream.left.wait(), 1)
    assert not reply.is_complete


async def test_cancelling_while_a_stream_is_waited_for_closes_the_upstream(upstream: Patient, lane: LiteLLM) -> None:
    upstream.said = [BEGIN, TEXT]

    async def read() -> None:
        async with await lane.send(make_exchange(model=MODEL, stream=True)) as reply:
            async for block in reply:
                if b"Hi" in block:
                    has_text.set()

    has_text = asyncio.Event()
    task = asyncio.create_task(read())
    await has_text.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(upstream.left.wait(), 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_does_not_begin_is_late(upstream: Patient, lane: LiteLLM, stream: bool) -> None:
    patience = make_patience(first_event=SHORT_SECONDS)

    with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.15 seconds"):
        await lane.send(make_exchange(model=MODEL, stream=stream, patience=patience))

    await asyncio.wait_for(upstream.left.wait(), 1)


async def test_a_silent_stream_is_closed_when_patience_ends(upstream: Patient, lane: LiteLLM) -> None:
    upstream.said = [BEGIN, TEXT]
    patience = make_patience(between_events=SHORT_SECONDS)

    with pytest.raises(UpstreamTimeout) as caught:
        async with await lane.send(make_exchange(model=MODEL, stream=True, patience=patience)) as reply:
            [block async for block in reply]

    assert caught.value.code == "upstream_stream_stalled"
    await asyncio.wait_for(upstream.left.wait(), 1)


@pytest.mark.parametrize("cuts", [False, True])
async def test_a_stream_that_said_why_it_ends_is_whole(upstream: Patient, lane: LiteLLM, cuts: bool) -> None:
    upstream.said, upstream.cuts = [BEGIN, TEXT, STOP], cuts
    patience = make_patience(between_events=SHORT_SECONDS)

    async with await lane.send(make_exchange(model=MODEL, stream=True, patience=patience)) as reply:
        body = b"".join([block async for block in reply])

    assert body.endswith(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert reply.is_complete
    await asyncio.wait_for(upstream.left.wait(), 1)


async def test_a_connection_cut_within_a_stream_interrupts_it(upstream: Patient, lane: LiteLLM) -> None:
    upstream.said, upstream.cuts = [BEGIN, TEXT], True

    with pytest.raises(UpstreamUnavailable) as caught:
        async with await lane.send(make_exchange(model=MODEL, stream=True)) as reply:
            [block async for block in reply]

    assert caught.value.code == "upstream_stream_interrupted"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_is_not_there_is_unreachable(stream: bool) -> None:
    lane = make_lane(f"http://127.0.0.1:{unused_port()}")

    with pytest.raises(UpstreamUnavailable) as caught:
        await lane.send(make_exchange(model=MODEL, stream=stream))

    assert caught.value.code == "upstream_unreachable"
    await lane.close()


class Forgetful:
    """Answers the first request of a connection and hangs up at the second, after these last words."""

    def __init__(self, last_words: bytes = b"") -> None:
        self.known: list[object] = []
        self.last_words = last_words

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        transport = request.transport
        is_known = transport in self.known
        self.known.append(transport)
        if is_known and isinstance(transport, asyncio.Transport):
            transport.write(self.last_words)
            transport.close()
        return web.json_response(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": MODEL,
                "content": [{"type": "text", "text": "Hi"}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        )


async def test_a_kept_connection_that_turns_out_dead_costs_no_attempt() -> None:
    upstream = Forgetful()
    app = web.Application()
    app.router.add_post("/v1/messages", upstream.handle)
    async with TestServer(app) as server:
        lane = make_lane(str(server.make_url("/")))

        for _ in range(2):
            async with await lane.send(make_exchange(model=MODEL)) as reply:
                assert b"Hi" in reply.body

        await lane.close()
    first, again, fresh = upstream.known
    assert first is again
    assert fresh is not first


async def test_what_began_to_be_answered_on_a_kept_connection_is_not_sent_a_second_time() -> None:
    upstream = Forgetful(b"HTTP/1.1 200 OK\r\nConte")
    app = web.Application()
    app.router.add_post("/v1/messages", upstream.handle)
    async with TestServer(app) as server:
        lane = make_lane(str(server.make_url("/")))
        async with await lane.send(make_exchange(model=MODEL)):
            pass

        with pytest.raises(UpstreamUnavailable):
            await lane.send(make_exchange(model=MODEL))

        await lane.close()
    assert len(upstream.known) == 2


async def test_legacy_completions_are_not_served(lane: LiteLLM) -> None:
    with pytest.raises(EndpointNotServed, match="does not serve /v1/completions"):
        await lane.send(make_exchange(endpoint="completions", body={"model": "small", "prompt": "Hi"}))
