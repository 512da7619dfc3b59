"""Streams through litellm that end in the middle of a tool call: what its arguments say is not the upstream's end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.errors import UpstreamUnavailable
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import make_exchange

ARGUMENTS = {"finishReason": "DONE", "stop_reason": "end_turn", "delta": {"stop_reason": "end_turn"}}
MODELS = {"gemini": "gemini-3.8-flash", "anthropic": "claude-haiku-4-5"}


def google(*, ends: bool) -> bytes:
    parts = [{"functionCall": {"name": "close", "args": ARGUMENTS}}]
    pieces: list[dict[str, Any]] = [{"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}]}]
    if ends:
        content = {"role": "model", "parts": [{"text": ""}]}
        pieces.append({"candidates": [{"content": content, "finishReason": "STOP"}]})
    return b"".join(b"data: " + json.dumps(piece).encode() + b"\r\n\r\n" for piece in pieces)


def anthropic(*, ends: bool) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": [], "usage": USED}
    call = {"type": "tool_use", "id": "toolu_1", "name": "close", "input": {}}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": call},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": json.dumps(ARGUMENTS)},
        },
        {"type": "content_block_stop", "index": 0},
    ]
    if ends:
        told += [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": USED}]
        told += [{"type": "message_stop"}]
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in told)


USED = {"input_tokens": 1, "output_tokens": 1}
WIRES: dict[str, Callable[..., bytes]] = {"gemini": google, "anthropic": anthropic}


@asynccontextmanager
async def lane_to(prefix: str, said: bytes, size: int) -> AsyncIterator[LiteLLM]:
    """Yield a lane to an upstream that says this in pieces of `size` bytes and then ends in good order."""

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for start in range(0, len(said), size):
            await response.write(said[start : start + size])
        return response

    app = web.Application()
    app.router.add_post("/{any:.*}", handle)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        lane = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix=prefix, base_url=url, api_key="canary"))
        yield lane
        await lane.close()


async def read(lane: LiteLLM, prefix: str) -> bytes:
    async with await lane.send(make_exchange(model=MODELS[prefix], stream=True)) as reply:
        return b"".join([block async for block in reply])


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("prefix", sorted(WIRES))
async def test_a_stream_cut_after_a_call_is_interrupted(prefix: str, size: int) -> None:
    async with lane_to(prefix, WIRES[prefix](ends=False), size) as lane:
        with pytest.raises(UpstreamUnavailable) as caught:
            await read(lane, prefix)

    assert caught.value.code == "upstream_stream_interrupted"


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("prefix", sorted(WIRES))
async def test_a_stream_that_ends_after_a_call_is_whole(prefix: str, size: int) -> None:
    async with lane_to(prefix, WIRES[prefix](ends=True), size) as lane:
        said = await read(lane, prefix)

    assert said.endswith(b'"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n')
