"""Answers that litellm reads otherwise than OpenAI's clients do: whole and streamed, they come out the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import make_exchange, numbers_of

USAGE = {"input_tokens": 5, "output_tokens": 3}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
TEXT = {"type": "text", "text": "b"}


class Saying:
    """Answers every request with `answer`, or with `events` as a stream."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.events: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        if not self.events:
            return web.json_response(self.answer)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events:
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        return response


@pytest.fixture
async def upstream() -> Saying:
    return Saying()


Lane = Callable[[str], LiteLLM]


@pytest.fixture
async def lane(upstream: Saying) -> AsyncIterator[Lane]:
    server = TestServer(web.Application())
    server.app.router.add_post("/{any:.*}", upstream.handle)
    made: list[LiteLLM] = []

    def make(prefix: str) -> LiteLLM:
        url, key = str(server.make_url("/v1")), SecretStr("sk-canary-0123456789")
        options = {"api_version": SecretStr("2024-10-21")} if prefix == "azure" else {}
        settings = LiteLLMSettings(kind="litellm", prefix=prefix, base_url=url, api_key=key, options=options)
        made.append(LiteLLM("lab", settings))
        return made[-1]

    async with server:
        yield make
        for each in made:
            await each.close()


def message(blocks: list[dict[str, Any]], reason: str) -> dict[str, Any]:
    """Return Anthropic's whole answer."""
    told = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "usage": USAGE}
    return {**told, "content": blocks, "stop_reason": reason, "stop_sequence": None}


def events(blocks: list[dict[str, Any]], reason: str) -> list[dict[str, Any]]:
    """Return the same as a stream; calls are said without a word of their arguments."""
    told: list[dict[str, Any]] = [{"type": "message_start", "message": {**message([], reason), "stop_reason": None}}]
    for index, block in enumerate(blocks):
        start = {**block, **({"text": ""} if block["type"] == "text" else {})}
        told.append({"type": "content_block_start", "index": index, "content_block": start})
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": block["text"]}
            told.append({"type": "content_block_delta", "index": index, "delta": delta})
        told.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": reason, "stop_sequence": None}
    told.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}})
    return [*told, {"type": "message_stop"}]


def google(parts: list[dict[str, Any]]) -> dict[str, Any]:
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}
    return {"candidates": [candidate], "usageMetadata": counted, "modelVersion": "g", "responseId": "r1"}


async def whole(provider: LiteLLM, model: str) -> dict[str, Any]:
    """Return content, calls and finish of a whole answer."""
    reply = await provider.send(make_exchange(model=model))
    choice = orjson.loads(reply.body)["choices"][0]
    calls = [
        (call["function"]["name"], call["function"]["arguments"]) for call in choice["message"].get("tool_calls", ())
    ]
    return {"content": choice["message"]["content"] or "", "calls": calls, "finish": choice["finish_reason"]}


async def streamed(provider: LiteLLM, model: str) -> dict[str, Any]:
    """Return the same of a stream, put together as a client does."""
    async with await provider.send(make_exchange(model=model, stream=True)) as reply:
        lines = b"".join([block async for block in reply]).split(b"\n\n")
    content, finish, calls = "", None, dict[int, tuple[str, str]]()
    for line in lines[:-2]:
        choice = orjson.loads(line.removeprefix(b"data: "))["choices"][0]
        finish = choice["finish_reason"] or finish
        content += choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls", ()):
            name, arguments = calls.get(call["index"], ("", ""))
            function = call["function"]
            calls[call["index"]] = (name + function.get("name", ""), arguments + function["arguments"])
    return {"content": content, "calls": [calls[index] for index in sorted(calls)], "finish": finish}


CASES = [
    ([{"type": "text", "text": "a"}, SEARCH, FOUND, TEXT], "end_turn", "ab", [], "stop"),
    ([SEARCH, FOUND, CALL], "tool_use", "", [("now", "{}")], "tool_calls"),
    ([TEXT, SEARCH, FOUND], "tool_use", "b", [], "stop"),
    ([CALL], "tool_use", "", [("now", "{}")], "tool_calls"),
    ([TEXT], "model_context_window_exceeded", "b", [], "length"),
]


@pytest.mark.parametrize(("blocks", "reason", "content", "calls", "finish"), CASES)
async def test_what_anthropic_does_by_itself_is_no_call_of_the_caller(
    upstream: Saying, lane: Lane, blocks: list[Any], reason: str, content: str, calls: list[Any], finish: str
) -> None:
    provider = lane("anthropic")
    expected = {"content": content, "calls": calls, "finish": finish}

    upstream.answer = message(blocks, reason)
    plain = await whole(provider, "claude-haiku-4-5")
    upstream.events = events(blocks, reason)
    stream = await streamed(provider, "claude-haiku-4-5")

    assert plain == expected
    assert stream == expected


@pytest.mark.parametrize("call", [{"name": "now"}, {"name": "now", "args": {}}, {"name": "now", "args": None}])
async def test_google_may_call_a_function_without_arguments(upstream: Saying, lane: Lane, call: dict[str, Any]) -> None:
    provider = lane("gemini")
    answer = google([{"functionCall": call}])
    expected = {"content": "", "calls": [("now", "{}")], "finish": "tool_calls"}

    upstream.answer = answer
    plain = await whole(provider, "gemini-2.5-flash")
    upstream.events = [answer]
    stream = await streamed(provider, "gemini-2.5-flash")

    assert plain == expected
    assert stream == expected


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([1, 0], [[2.0], [1.0]]), ([0, 1], [[1.0], [2.0]]), ([0, 0], [[1.0], [2.0]]), ([None, None], [[1.0], [2.0]])],
)
@pytest.mark.parametrize("prefix", ["azure", "openai"])
async def test_vectors_are_in_the_order_of_their_index(
    upstream: Saying, lane: Lane, prefix: str, indices: list[int | None], expected: list[list[float]]
) -> None:
    provider = lane(prefix)
    vectors = [{"object": "embedding", "embedding": [float(place + 1)]} for place in range(2)]
    data = [{**vector, "index": index} for vector, index in zip(vectors, indices, strict=True)]
    upstream.answer = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}

    reply = await provider.send(make_exchange(endpoint="embeddings", body={"model": "m", "input": ["a", "b"]}))

    assert numbers_of(reply) == expected
