"""The litellm lane against a small server that speaks Bedrock's wire, whose streams are binary."""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from gateway.call import Usage
from gateway.errors import UpstreamRateLimited, UpstreamRejected, UpstreamUnavailable
from gateway.providers import LiteLLMSettings, PlainReply
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import MESSAGES, make_exchange, numbers_of
from tests.support.reached import reached_hosts

MODEL = "us.amazon.nova-2-lite-v1:0"
SECRET = "canary/0123456789/canary"


def frame(kind: str, payload: dict[str, Any], *, is_exception: bool = False) -> bytes:
    """Return one message of Amazon's event stream: lengths, headers, payload and their sums."""
    named = {
        ":exception-type" if is_exception else ":event-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception" if is_exception else "event",
    }
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in named.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack(">I", binascii.crc32(message))


def text(piece: str) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})


BEGIN = frame("messageStart", {"role": "assistant"})
CALL = [
    frame("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "add"}}}),
    frame("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"a":1}'}}}),
    frame("contentBlockStop", {"contentBlockIndex": 1}),
]
END = [
    frame("messageStop", {"stopReason": "tool_use"}),
    frame("metadata", {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {"latencyMs": 1}}),
]


class Bedrock:
    """Answers with `status`, with `answer`, or with `frames` as a stream."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.frames: list[bytes] = []
        self.status = 200
        self.authorization = ""
        self.asked: list[tuple[str, dict[str, Any]]] = []  # path and body

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((unquote(request.path), json.loads(await request.read())))
        self.authorization = request.headers["Authorization"]
        if self.status != 200:
            return web.json_response({"message": "Slow down"}, status=self.status, headers={"retry-after": "7"})
        if self.answer:
            return web.json_response(self.answer)
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
        await response.prepare(request)
        for sent in self.frames:
            await response.write(sent)
        return response


@pytest.fixture
async def bedrock() -> Bedrock:
    return Bedrock()


@pytest.fixture
async def lane(bedrock: Bedrock) -> AsyncIterator[LiteLLM]:
    app = web.Application()
    app.router.add_post("/{any:.*}", bedrock.handle)
    server = TestServer(app)
    await server.start_server()
    options = {"aws_region_name": "us-east-1", "aws_access_key_id": "AKCANARY", "aws_secret_access_key": SECRET}
    settings = LiteLLMSettings(
        kind="litellm",
        prefix="bedrock",
        base_url=str(server.make_url("/")),
        options={name: SecretStr(value) for name, value in options.items()},
    )
    provider = LiteLLM("lab", settings)
    await provider.prepare()
    with reached_hosts() as reached:
        yield provider
        await provider.close()
        await server.close()
    assert reached <= {"127.0.0.1"}  # above all not the metadata service of the machine it runs on


async def read(lane: LiteLLM) -> tuple[list[dict[str, Any]], Usage | None]:
    async with await lane.send(make_exchange(model=MODEL, stream=True)) as reply:
        events = b"".join([block async for block in reply]).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [orjson.loads(event.removeprefix(b"data: "))["choices"][0] for event in events[:-2]], reply.usage


async def test_a_signed_stream_of_text_and_a_call(bedrock: Bedrock, lane: LiteLLM) -> None:
    bedrock.frames = [BEGIN, text("Hel"), text("lo"), *CALL, *END]

    choices, usage = await read(lane)

    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hel"},
        {"content": "lo"},
        {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "add", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
        {},
    ]
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert usage == Usage(3, 4)
    assert bedrock.authorization.startswith("AWS4-HMAC-SHA256 Credential=AKCANARY/")


async def test_a_stream_that_ends_without_a_reason_is_interrupted(bedrock: Bedrock, lane: LiteLLM) -> None:
    bedrock.frames = [BEGIN, text("Hel")]

    with pytest.raises(UpstreamUnavailable) as caught:
        await read(lane)

    assert caught.value.code == "upstream_stream_interrupted"


async def test_an_exception_in_the_middle_of_a_stream_is_what_it_says(bedrock: Bedrock, lane: LiteLLM) -> None:
    bedrock.frames = [BEGIN, text("Hel"), frame("throttlingException", {"message": "Slow down"}, is_exception=True)]

    with pytest.raises(UpstreamRateLimited) as caught:
        await read(lane)

    assert caught.value.message == "Slow down"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_has_its_error(bedrock: Bedrock, lane: LiteLLM, stream: bool) -> None:
    bedrock.status = 429

    with pytest.raises(UpstreamRateLimited) as caught:
        await lane.send(make_exchange(model=MODEL, stream=stream))

    assert (caught.value.message, caught.value.retry_after) == ("Slow down", 7)


@pytest.mark.parametrize("model", [MODEL, "global.anthropic.claude-sonnet-5-5"])
async def test_a_signed_answer_of_text_and_a_call(bedrock: Bedrock, lane: LiteLLM, model: str) -> None:
    call = {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 1}}}
    bedrock.answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}, call]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
        "metrics": {"latencyMs": 1},
    }
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}

    reply = await lane.send(make_exchange(model=model, body={"model": "m", "messages": MESSAGES, "tools": [tool]}))

    assert isinstance(reply, PlainReply)
    choice = orjson.loads(reply.body)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], reply.usage) == ("Hello", "tool_calls", Usage(3, 4))
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    (path, body) = bedrock.asked[0]
    assert path == f"/model/{model}/converse"
    assert body["messages"] == [{"role": "user", "content": [{"text": MESSAGES[0]["content"]}]}]
    assert body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "add"
    assert bedrock.authorization.startswith("AWS4-HMAC-SHA256 Credential=AKCANARY/")


SAID = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
}
CALLING = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize("model", [MODEL, "us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-opus-5-5"])
async def test_no_word_reaches_the_model_that_nobody_wrote(bedrock: Bedrock, lane: LiteLLM, model: str) -> None:
    bedrock.answer = SAID
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    messages = [
        {"role": "system", "content": "First"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [CALLING]},
        {"role": "system", "content": "Late"},
        {"role": "tool", "tool_call_id": "t1", "content": "3"},
        {"role": "assistant", "content": "So"},
        {"role": "developer", "content": "Later"},
        {"role": "user", "content": "More"},
    ]

    await lane.send(make_exchange(model=model, body={"model": "m", "messages": messages, "tools": [tool]}))

    body = bedrock.asked[0][1]
    result = {"toolResult": {"content": [{"text": "3"}], "toolUseId": "t1"}}
    assert body["system"] == [{"text": "First"}]
    assert [(turn["role"], *turn["content"]) for turn in body["messages"]] == [
        ("user", {"text": "Hi"}),
        ("assistant", {"toolUse": {"toolUseId": "t1", "name": "add", "input": {}}}),
        ("user", result, {"text": "Late"}),
        ("assistant", {"text": "So"}),
        ("user", {"text": "Later"}, {"text": "More"}),
    ]


async def test_calls_without_tools_are_not_told_as_text(bedrock: Bedrock, lane: LiteLLM) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [CALLING]}]

    with pytest.raises(UpstreamRejected) as caught:
        await lane.send(make_exchange(model=MODEL, body={"model": "m", "messages": messages}))

    assert caught.value.param == "tools"
    assert bedrock.asked == []


@pytest.mark.parametrize(("limit", "longest"), [(None, 64_000), (2000, 2000)])
async def test_thinking_keeps_the_deployments_limit(
    bedrock: Bedrock, lane: LiteLLM, limit: int | None, longest: int
) -> None:
    bedrock.answer = SAID
    model = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    exchange = make_exchange(model=model, body={"model": "m", "messages": MESSAGES, "reasoning_effort": "low"})
    exchange.max_output_tokens = limit

    await lane.send(exchange)

    body = bedrock.asked[0][1]
    assert body["inferenceConfig"] == {"maxTokens": longest}
    assert body["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1024


VECTORS: list[tuple[str, dict[str, Any], list[dict[str, Any]], int]] = [
    (
        "amazon.titan-embed-text-v2:0",
        {"embedding": [0.5, 0.25], "embeddingsByType": {"float": [0.5, 0.25]}, "inputTextTokenCount": 3},
        [{"inputText": "a"}, {"inputText": "b"}],
        6,
    ),
    (
        "cohere.embed-english-v3",
        {
            "embeddings": [[0.5, 0.25], [0.5, 0.25]],
            "id": "1",
            "response_type": "embeddings_floats",
            "texts": ["a", "b"],
        },
        [{"texts": ["a", "b"]}],
        -1,
    ),
]


@pytest.mark.parametrize(("model", "answer", "expected", "tokens"), VECTORS)
async def test_vectors_come_from_the_families_that_bedrock_has(
    bedrock: Bedrock, lane: LiteLLM, model: str, answer: dict[str, Any], expected: list[dict[str, Any]], tokens: int
) -> None:
    bedrock.answer = answer

    reply = await lane.send(make_exchange(endpoint="embeddings", model=model, body={"model": "m", "input": ["a", "b"]}))

    assert isinstance(reply, PlainReply)
    assert numbers_of(reply) == [[0.5, 0.25], [0.5, 0.25]]
    assert tokens < 0 or reply.usage == Usage(tokens)
    assert [path for path, _ in bedrock.asked] == [f"/model/{model}/invoke"] * len(expected)
    assert all(wanted.items() <= body.items() for wanted, (_, body) in zip(expected, bedrock.asked, strict=True))
    assert bedrock.authorization.startswith("AWS4-HMAC-SHA256 Credential=AKCANARY/")


@pytest.mark.parametrize("model", ["amazon.titan-embed-text-v2:0", "cohere.embed-english-v3"])
async def test_refused_vectors_have_their_error(bedrock: Bedrock, lane: LiteLLM, model: str) -> None:
    bedrock.status = 429

    with pytest.raises(UpstreamRateLimited) as caught:
        await lane.send(make_exchange(endpoint="embeddings", model=model, body={"model": "m", "input": "a"}))

    assert caught.value.retry_after == 7
    assert len(bedrock.asked) == 1
