"""The litellm lane over connections that litellm opens by itself, against a small server that speaks Azure's wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from pydantic import SecretStr

from gateway.call import Endpoint, Usage
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamAuthFailed,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers import LiteLLMSettings, PlainReply
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import MESSAGES, SHORT_SECONDS, make_exchange, make_patience

KEY = "azure-canary-0123456789"
COUNTED = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


class Azure:
    """Answers each request with `redirect`, with `status` and `answer`, or with `chunks` as a stream that stays open if it `hangs`."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: dict[str, Any] = {}
        self.chunks: list[dict[str, Any]] = []
        self.hangs = False
        self.redirect = ""
        self.asked: list[dict[str, Any]] = []
        self.busy = asyncio.Event()
        self.left = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(json.loads(await request.read()))
        self.busy.set()
        if self.redirect:
            return web.Response(status=307, headers={"Location": self.redirect})
        try:
            if self.status != 200 or self.answer:
                return web.json_response(self.answer, status=self.status, headers={"retry-after": "7"})
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            if self.chunks:
                await response.prepare(request)
            for said in self.chunks:
                await response.write(f"data: {json.dumps(said)}\n\n".encode())
            if self.hangs:
                await asyncio.Event().wait()
            await response.write(b"data: [DONE]\n\n")
            return response
        except asyncio.CancelledError:
            self.left.set()
            raise


@pytest.fixture
async def azure() -> Azure:
    return Azure()


def make_lane(url: str) -> LiteLLM:
    options = {"api_version": SecretStr("2024-10-21")}
    return LiteLLM(
        "lab", LiteLLMSettings(kind="litellm", prefix="azure", base_url=url, api_key=SecretStr(KEY), options=options)
    )


@pytest.fixture
async def lane(azure: Azure) -> AsyncIterator[LiteLLM]:
    app = web.Application()
    app.router.add_post("/{any:.*}", azure.handle)
    server = TestServer(app)
    await server.start_server()
    provider = make_lane(str(server.make_url("/")))
    await provider.prepare()
    yield provider
    await provider.close()
    await server.close()


async def read(lane: LiteLLM, **options: Any) -> tuple[list[Any], Usage | None]:
    async with await lane.send(make_exchange(model="gpt-4o", stream=True, **options)) as reply:
        events = b"".join([block async for block in reply]).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events[:-2]], reply.usage


async def test_a_stream_has_one_role_one_finish_and_its_usage(azure: Azure, lane: LiteLLM) -> None:
    azure.chunks = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"})]
    azure.chunks += [chunk({}, "length"), {**chunk({}), "choices": [], "usage": COUNTED}]

    chunks, usage = await read(lane)

    assert [told["choices"][0]["delta"] for told in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [told["choices"][0]["finish_reason"] for told in chunks] == [None, None, None, "length"]
    assert usage == Usage(3, 4)


async def test_a_stream_that_ends_without_a_reason_is_interrupted(azure: Azure, lane: LiteLLM) -> None:
    azure.chunks = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})]

    with pytest.raises(UpstreamUnavailable) as caught:
        await read(lane)

    assert caught.value.code == "upstream_stream_interrupted"


async def test_a_picture_is_asked_for_by_the_name_of_its_deployment(azure: Azure, lane: LiteLLM) -> None:
    azure.answer = {"created": 1, "data": [{"b64_json": "QQ=="}]}
    picture = make_exchange(endpoint="images/generations", model="gpt-image-2", body={"prompt": "Cat"})

    reply = await lane.send(picture)

    assert isinstance(reply, PlainReply)
    assert orjson.loads(reply.body)["data"][0]["b64_json"] == "QQ=="
    assert [asked["prompt"] for asked in azure.asked] == ["Cat"]


@pytest.mark.parametrize("endpoint", ["chat/completions", "embeddings"])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_redirect_is_followed_with_our_key(
    lane: LiteLLM, azure: Azure, endpoint: Endpoint, stream: bool
) -> None:
    azure.redirect = "/stolen"
    body = {"model": "m", "messages": MESSAGES} if endpoint == "chat/completions" else {"model": "m", "input": "a"}

    with pytest.raises(UpstreamProtocolError) as caught:
        await lane.send(make_exchange(endpoint=endpoint, body=body, stream=stream and endpoint == "chat/completions"))

    assert caught.value.code == "upstream_redirect"
    assert len(azure.asked) == 1


FAILURES: list[tuple[int, str, str, type[GatewayError]]] = [
    (400, "Bad temperature", "bad_value", UpstreamRejected),
    (400, "This model's maximum context length is 8 tokens.", "context_length_exceeded", ContextLengthExceeded),
    (401, "Access denied", "401", UpstreamAuthFailed),
    (429, "Slow down", "429", UpstreamRateLimited),
    (500, "Oh", "500", UpstreamUnavailable),
    (503, "Busy", "503", UpstreamOverloaded),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "sentence", "code", "expected"), FAILURES)
async def test_every_refusal_has_its_error(
    azure: Azure, lane: LiteLLM, stream: bool, status: int, sentence: str, code: str, expected: type[GatewayError]
) -> None:
    azure.status = status
    azure.answer = {"error": {"message": f"{sentence} {KEY}", "type": "x", "param": "temperature", "code": code}}

    with pytest.raises(expected) as caught:
        await lane.send(make_exchange(model="gpt-4o", stream=stream))

    told = caught.value
    assert told.message.endswith(f"{sentence} ***") or expected is UpstreamAuthFailed
    assert "Exception" not in told.message
    assert len(azure.asked) == 1
    if expected is UpstreamRejected:
        assert (told.param, told.code) == ("temperature", "bad_value")
    if expected is UpstreamRateLimited:
        assert told.retry_after == 7


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_a_call_closes_the_upstream(azure: Azure, lane: LiteLLM, stream: bool) -> None:
    azure.hangs = True
    task = asyncio.create_task(lane.send(make_exchange(model="gpt-4o", stream=stream)))
    await azure.busy.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(azure.left.wait(), 1)


async def test_leaving_a_stream_closes_the_upstream(azure: Azure, lane: LiteLLM) -> None:
    azure.chunks, azure.hangs = [chunk({"role": "assistant", "content": "Hi"})], True

    async with await lane.send(make_exchange(model="gpt-4o", stream=True)) as reply:
        await anext(aiter(reply))

    await asyncio.wait_for(azure.left.wait(), 1)


async def test_a_silent_stream_is_closed_when_patience_ends(azure: Azure, lane: LiteLLM) -> None:
    azure.chunks, azure.hangs = [chunk({"role": "assistant", "content": "Hi"})], True

    with pytest.raises(UpstreamTimeout) as caught:
        await read(lane, patience=make_patience(between_events=SHORT_SECONDS))

    assert caught.value.code == "upstream_stream_stalled"
    await asyncio.wait_for(azure.left.wait(), 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_is_not_there_is_unreachable(stream: bool) -> None:
    lane = make_lane(f"http://127.0.0.1:{unused_port()}")

    with pytest.raises(UpstreamUnavailable) as caught:
        await lane.send(make_exchange(model="gpt-4o", stream=stream))

    assert caught.value.code == "upstream_unreachable"
    await lane.close()
