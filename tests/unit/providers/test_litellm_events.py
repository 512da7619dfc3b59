"""One event of a stream has a limit, whoever sends it: litellm would hold whatever comes until it ends."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from gateway.errors import UpstreamError, UpstreamTooLarge
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from gateway.providers.litellm_events import MAX_EVENT_BYTES, EventMeter
from tests.support.exchanges import make_exchange, make_patience

MIB = 2**20
PAD = b" " * MIB


def fed(pieces: list[bytes], path: str = "/v1/messages") -> EventMeter:
    meter = EventMeter(path)
    for piece in pieces:
        meter.feed(piece)
    return meter


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_many_events_together_may_be_larger_than_one(end: bytes) -> None:
    event = b"data: " + PAD * 10 + end

    fed([event, event, event])
    fed([event[:-1], event[-1:] + event[:-1], event[-1:] + event])  # the end may be cut


@pytest.mark.parametrize(
    "pieces", [[PAD] * 17, [b"data: a\n\n", *[PAD] * 17], [b"data: a\ndata: " + PAD] * 17, [b"{" + PAD + b"}\n"] * 17]
)
def test_one_event_may_not_be_larger(pieces: list[bytes]) -> None:
    with pytest.raises(UpstreamTooLarge) as caught:
        fed(pieces)

    assert caught.value.code == "event_too_large"
    assert MAX_EVENT_BYTES == 16 * MIB


def test_frames_of_aws_are_not_counted_here() -> None:
    fed([PAD] * 20, "/model/m/converse-stream")


@pytest.fixture
async def pouring() -> AsyncIterator[str]:
    """Serve a stream whose first event never ends, whoever asks in whatever way."""

    async def pour(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):
            await response.write(b"data: ")
            for _ in range(100):
                await response.write(PAD)
        return response

    server = TestServer(web.Application())
    server.app.router.add_route("*", "/{any:.*}", pour)
    async with server:
        yield str(server.make_url("/v1"))


async def test_a_frame_of_aws_that_is_too_large_is_given_up() -> None:
    """Of 1 GiB, as its head says: botocore believes none of more than 24 MiB."""
    head = struct.pack(">II", 2**30, 0)
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
        await response.prepare(request)
        with suppress(ConnectionError):
            await response.write(head + struct.pack(">I", zlib.crc32(head)))
            for _ in range(40):
                await response.write(PAD)
                sent += 1
        return response

    server = TestServer(web.Application())
    server.app.router.add_route("*", "/{any:.*}", pour)
    keys = {"aws_region_name": "us-east-1", "aws_access_key_id": "AK", "aws_secret_access_key": "x"}
    async with server:
        options = {name: SecretStr(value) for name, value in keys.items()}
        url = str(server.make_url("/"))
        lane = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix="bedrock", base_url=url, options=options))
        exchange = make_exchange(model="us.amazon.nova-2-lite-v1:0", stream=True, patience=make_patience(total=30))
        with pytest.raises(UpstreamError) as caught:
            async with await lane.send(exchange) as stream:
                async for _ in stream:
                    pass
        await lane.close()

    assert caught.value.failover
    assert sent < 24


@pytest.mark.parametrize("prefix", ["anthropic", "azure", "cohere_chat", "gemini", "groq", "mistral", "openai"])
async def test_a_stream_with_an_event_without_end_is_given_up(prefix: str, pouring: str) -> None:
    settings = LiteLLMSettings(kind="litellm", prefix=prefix, base_url=pouring, api_key=SecretStr("sk-1234567890"))
    lane = LiteLLM("lab", settings)

    with pytest.raises(UpstreamTooLarge) as caught:
        reply = await lane.send(make_exchange(stream=True, patience=make_patience(total=30)))
        async with reply as stream:
            async for _ in stream:
                pass
    await lane.close()

    assert caught.value.code == "event_too_large"
