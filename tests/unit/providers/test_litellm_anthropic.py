"""The litellm lane against a small server that speaks Anthropic's wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.call import Usage
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import make_exchange

MODEL = "claude-haiku-4-5"
KEY = "sk-ant-canary-0123456789"
COUNTED = {"input_tokens": 10, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0, "output_tokens": 1}
BEGIN = {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL}}
BEGIN["message"] |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": COUNTED}  # type: ignore[operator]
END = {"type": "message_stop"}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def tool(index: int, name: str, *pieces: str) -> list[dict[str, Any]]:
    start = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
    return block(index, start, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def stop(reason: str) -> dict[str, Any]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 15}}


def fail(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


class Claude:
    """Answers each request with `status` and `answer`, or with `events` as a stream."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(json.loads(await request.read()))
        if not self.events:
            return web.json_response(self.answer, status=self.status, headers=self.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events:
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return response


@pytest.fixture
async def claude() -> Claude:
    return Claude()


@pytest.fixture
async def lane(claude: Claude) -> AsyncIterator[LiteLLM]:
    app = web.Application()
    app.router.add_post("/v1/messages", claude.handle)
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("/"))
    provider = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix="anthropic", base_url=url, api_key=KEY))
    yield provider
    await provider.close()
    await server.close()


def message(*content: dict[str, Any], reason: str = "end_turn") -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": list(content),
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {**COUNTED, "output_tokens": 5},
    }


async def chunks_of(lane: LiteLLM, *, wants_usage: bool = False) -> tuple[list[dict[str, Any]], Usage | None, bool]:
    exchange = make_exchange(model=MODEL, stream=True, wants_usage=wants_usage)
    blocks = []
    async with await lane.send(exchange) as reply:
        async for piece in reply:
            blocks.append(piece)
    events = b"".join(blocks).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events[:-2]], reply.usage, reply.is_complete


async def test_a_plain_answer_has_openais_keys_only(claude: Claude, lane: LiteLLM) -> None:
    claude.answer = message({"type": "text", "text": "Hello"})

    async with await lane.send(make_exchange(model=MODEL)) as reply:
        body = orjson.loads(reply.body)

    assert body.pop("id").startswith("chatcmpl-")
    assert type(body.pop("created")) is int
    assert body == {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 13,
            "completion_tokens": 5,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    assert reply.usage == Usage(13, 5, 3)


async def test_tool_calls_of_a_plain_answer_have_text_as_arguments(claude: Claude, lane: LiteLLM) -> None:
    claude.answer = message({"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}, reason="tool_use")

    async with await lane.send(make_exchange(model=MODEL)) as reply:
        choice = orjson.loads(reply.body)["choices"][0]

    called = {"id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None, "tool_calls": [called]}
    assert choice["finish_reason"] == "tool_calls"


async def test_a_stream_begins_with_the_role_and_ends_with_the_finish(claude: Claude, lane: LiteLLM) -> None:
    claude.events = [BEGIN, *text(0, "Hel", "lo"), stop("max_tokens"), END]

    chunks, usage, is_complete = await chunks_of(lane)

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {("chat.completion.chunk", MODEL)}
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert not any("usage" in chunk for chunk in chunks)
    assert (usage, is_complete) == (Usage(13, 15, 3), True)


async def test_usage_comes_last_and_without_choices_if_it_is_asked_for(claude: Claude, lane: LiteLLM) -> None:
    claude.events = [BEGIN, *text(0, "Hi"), stop("end_turn"), END]

    chunks, _, _ = await chunks_of(lane, wants_usage=True)

    assert chunks[-1]["choices"] == []
    assert (chunks[-1]["usage"]["prompt_tokens"], chunks[-1]["usage"]["completion_tokens"]) == (13, 15)
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_parallel_tool_calls_are_streamed_with_their_own_indexes(claude: Claude, lane: LiteLLM) -> None:
    claude.events = [
        BEGIN,
        *text(0, "So"),
        *tool(1, "add", '{"a":', "1}"),
        *tool(2, "sub", "{}"),
        stop("tool_use"),
        END,
    ]

    chunks, _, _ = await chunks_of(lane)

    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert calls == [
        {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
        {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "sub", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_thoughts_are_reasoning_content(claude: Claude, lane: LiteLLM) -> None:
    thinking = block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "Hm"})
    claude.events = [BEGIN, *thinking, *text(1, "Hi"), stop("end_turn"), END]

    chunks, _, _ = await chunks_of(lane)

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[1:3] == [{"reasoning_content": "Hm"}, {"content": "Hi"}]


async def test_a_stream_that_ends_without_a_reason_is_interrupted(claude: Claude, lane: LiteLLM) -> None:
    claude.events = [BEGIN, *text(0, "Hel")]

    with pytest.raises(UpstreamUnavailable) as caught:
        await chunks_of(lane)

    assert caught.value.code == "upstream_stream_interrupted"


async def test_an_error_in_the_middle_of_a_stream_is_what_it_says(claude: Claude, lane: LiteLLM) -> None:
    claude.events = [BEGIN, *text(0, "Hel"), fail("overloaded_error", "Overloaded")]

    with pytest.raises(UpstreamOverloaded, match=r"Overloaded$"):
        await chunks_of(lane)


async def test_an_error_before_a_stream_is_raised_by_send(claude: Claude, lane: LiteLLM) -> None:
    claude.events = [fail("rate_limit_error", "Slow down")]

    with pytest.raises(UpstreamRateLimited, match="Slow down"):
        await lane.send(make_exchange(model=MODEL, stream=True))


FAILURES: list[tuple[int, str, str, type[GatewayError], str | None]] = [
    (400, "invalid_request_error", "temperature: range: 0..1", UpstreamRejected, "temperature"),
    (400, "invalid_request_error", "messages.0.content: Field required", UpstreamRejected, "messages.0.content"),
    (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ContextLengthExceeded, "messages"),
    (400, "invalid_request_error", "Your credit balance is too low to use this", UpstreamRateLimited, None),
    (401, "authentication_error", "invalid x-api-key", UpstreamAuthFailed, None),
    (403, "permission_error", "no", UpstreamAuthFailed, None),
    (404, "not_found_error", "model: claude-9", UpstreamModelMissing, None),
    (413, "request_too_large", "too large", UpstreamRejected, None),
    (429, "rate_limit_error", "Slow down", UpstreamRateLimited, None),
    (500, "api_error", "Internal server error", UpstreamUnavailable, None),
    (529, "overloaded_error", "Overloaded", UpstreamOverloaded, None),
    (302, "moved", "elsewhere", UpstreamProtocolError, None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "kind", "sentence", "expected", "param"), FAILURES)
async def test_every_refusal_has_its_error(
    claude: Claude,
    lane: LiteLLM,
    stream: bool,
    status: int,
    kind: str,
    sentence: str,
    expected: type[GatewayError],
    param: str | None,
) -> None:
    claude.status, claude.headers = status, {"retry-after": "7"}
    claude.answer = fail(kind, f"{sentence} {KEY}")

    with pytest.raises(expected) as caught:
        await lane.send(make_exchange(model=MODEL, stream=stream))

    assert caught.value.param == param
    assert "itellm" not in caught.value.message
    assert KEY not in caught.value.message
    assert len(claude.asked) == 1
    if isinstance(caught.value, UpstreamError):
        assert caught.value.upstream_status in (status, 402)
    if expected is UpstreamRateLimited:
        assert caught.value.retry_after == 7
