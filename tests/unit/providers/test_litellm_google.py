"""The litellm lane against a small server that speaks Google's wire: text, vectors and pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.call import Endpoint, Usage
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamAuthFailed,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import MESSAGES, make_exchange, numbers_of

MODEL = "gemini-3.8-flash"
KEY = "AIzaCanary0123456789012345678"
COUNTED = {
    "promptTokenCount": 10,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 6,
    "totalTokenCount": 20,
    "cachedContentTokenCount": 2,
}
PICTURE = base64.b64encode(b"picture").decode()


def says(text: str, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": index}
    return {**candidate, "finishReason": finish} if finish else candidate


def piece(*candidates: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": list(candidates), "usageMetadata": COUNTED, "modelVersion": MODEL, "responseId": "r1"}


class Gemini:
    """Answers each request with `status` and `answer`, or with `pieces` as a stream."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = {}
        self.pieces: list[dict[str, Any]] = []
        self.hangs = False
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.busy = asyncio.Event()
        self.left = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(json.loads(await request.read()))
        self.paths.append(request.path_qs)
        self.busy.set()
        try:
            if self.hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        if self.status != 200 or not self.pieces:
            return web.json_response(self.answer, status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for said in self.pieces:
            await response.write(f"data: {json.dumps(said)}\r\n\r\n".encode())
        return response


@pytest.fixture
async def gemini() -> Gemini:
    return Gemini()


@pytest.fixture
async def lane(gemini: Gemini) -> AsyncIterator[LiteLLM]:
    app = web.Application()
    app.router.add_post("/{any:.*}", gemini.handle)
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("/"))
    provider = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix="gemini", base_url=url, api_key=KEY))
    yield provider
    await provider.close()
    await server.close()


async def plain(lane: LiteLLM, endpoint: Endpoint = "chat/completions", model: str = MODEL, **body: Any) -> Any:
    async with await lane.send(make_exchange(endpoint=endpoint, model=model, body={"model": "m", **body})) as reply:
        return orjson.loads(reply.body)


async def embed(lane: LiteLLM, **body: Any) -> list[list[float]]:
    exchange = make_exchange(endpoint="embeddings", model="gemini-embedding-2", body={"model": "m", **body})
    async with await lane.send(exchange) as reply:
        return numbers_of(reply)


async def chunks_of(lane: LiteLLM, **body: Any) -> tuple[list[dict[str, Any]], Usage | None]:
    exchange = make_exchange(model=MODEL, stream=True, body={"model": "m", "messages": MESSAGES, **body})
    async with await lane.send(exchange) as reply:
        events = b"".join([block async for block in reply]).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events[:-2]], reply.usage


async def test_a_plain_answer_counts_thoughts_and_cached_tokens(gemini: Gemini, lane: LiteLLM) -> None:
    gemini.answer = piece(says("Hello", finish="STOP"))

    body = await plain(lane, messages=MESSAGES)

    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert body["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }


@pytest.mark.parametrize("sent", [{}, {"temperature": 0.5}])
async def test_a_temperature_is_sent_only_if_it_was_asked_for(
    gemini: Gemini, lane: LiteLLM, sent: dict[str, Any]
) -> None:
    gemini.answer = piece(says("Hello", finish="STOP"))

    await plain(lane, messages=MESSAGES, **sent)

    assert gemini.asked[0]["generationConfig"] == sent


async def test_every_choice_of_a_stream_has_its_role_and_its_finish(gemini: Gemini, lane: LiteLLM) -> None:
    gemini.pieces = [
        piece(says("a", 0), says("b", 1)),
        piece(says("A", 0, "STOP")),
        piece(says("B", 1, "MAX_TOKENS")),
        piece(says("", 1)),
    ]

    chunks, usage = await chunks_of(lane, n=2)

    told: dict[int, list[Any]] = {0: [], 1: []}
    for chunk in chunks:
        choice = chunk["choices"][0]
        told[choice["index"]].append(choice["finish_reason"] or choice["delta"].get("content"))
    assert told == {0: ["", "a", "A", "stop"], 1: ["", "b", "B", "length"]}
    assert gemini.asked[0]["generationConfig"] == {"candidate_count": 2}
    assert usage == Usage(10, 10, 2)


async def test_tool_calls_in_a_stream_end_it_as_tool_calls(gemini: Gemini, lane: LiteLLM) -> None:
    calls = [{"functionCall": {"name": name, "args": {"a": 1}}} for name in ("add", "sub")]
    gemini.pieces = [
        piece({"content": {"role": "model", "parts": [calls[0]]}, "index": 0}),
        piece({"content": {"role": "model", "parts": [calls[1]]}, "index": 0}),
        piece(says("", 0, "STOP")),
    ]

    chunks, _ = await chunks_of(lane)

    made = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [(call["index"], call["type"], call["function"]) for call in made] == [
        (0, "function", {"name": "add", "arguments": '{"a": 1}'}),
        (1, "function", {"name": "sub", "arguments": '{"a": 1}'}),
    ]
    assert len({call["id"] for call in made}) == 2
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("pieces", [[piece(says("Hel"))], [piece(says("a", 0, "STOP"), says("b", 1))]])
async def test_a_stream_that_ends_without_a_reason_is_interrupted(
    gemini: Gemini, lane: LiteLLM, pieces: list[dict[str, Any]]
) -> None:
    gemini.pieces = pieces

    with pytest.raises(UpstreamUnavailable) as caught:
        await chunks_of(lane, n=2)

    assert caught.value.code == "upstream_stream_interrupted"


async def test_an_error_in_the_middle_of_a_stream_is_what_it_says(gemini: Gemini, lane: LiteLLM) -> None:
    reported = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
    gemini.pieces = [piece(says("Hel")), {"error": reported}]

    with pytest.raises(UpstreamOverloaded, match="The model is overloaded"):
        await chunks_of(lane)


async def test_a_blocked_prompt_is_filtered_content(gemini: Gemini, lane: LiteLLM) -> None:
    gemini.pieces = [{"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": COUNTED}]

    chunks, _ = await chunks_of(lane)

    assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}
FAILURES: list[tuple[int, str, type[GatewayError]]] = [
    (400, "API key not valid. Please pass a valid API key.", UpstreamAuthFailed),
    (400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", ContextLengthExceeded),
    (400, "Invalid value at 'generation_config'", UpstreamRejected),
    (403, "no", UpstreamAuthFailed),
    (404, "models/gemini-9 is not found for API version v1beta", UpstreamModelMissing),
    (429, "Resource has been exhausted", UpstreamRateLimited),
    (500, "Internal error", UpstreamUnavailable),
    (503, "The model is overloaded", UpstreamOverloaded),
]


@pytest.mark.parametrize("kind", ["plain", "stream", "vector", "picture"])
@pytest.mark.parametrize(("status", "sentence", "expected"), FAILURES)
async def test_every_refusal_has_its_error(
    gemini: Gemini, lane: LiteLLM, kind: str, status: int, sentence: str, expected: type[GatewayError]
) -> None:
    gemini.status = status
    gemini.answer = {"error": {"code": status, "message": f"{sentence} {KEY}", "status": "X", "details": [RETRY]}}
    exchange = {
        "plain": make_exchange(model=MODEL),
        "stream": make_exchange(model=MODEL, stream=True),
        "vector": make_exchange(endpoint="embeddings", model="gemini-embedding-2", body={"model": "e", "input": "Hi"}),
        "picture": make_exchange(endpoint="images/generations", model="gemini-3.1-flash-image", body={"prompt": "Cat"}),
    }[kind]

    with pytest.raises(expected) as caught:
        await lane.send(exchange)

    assert sentence in caught.value.message or expected is UpstreamAuthFailed
    assert KEY not in caught.value.message
    if expected is UpstreamRateLimited:
        assert caught.value.retry_after == 37


async def test_vectors_come_in_the_order_of_the_inputs(gemini: Gemini, lane: LiteLLM) -> None:
    gemini.answer = {"embeddings": [{"values": [0.5, 0.25]}, {"values": [1.0, 2.0]}]}

    vectors = await embed(lane, input=["a", "b"], dimensions=2)

    assert vectors == [[0.5, 0.25], [1.0, 2.0]]
    assert [asked["outputDimensionality"] for asked in gemini.asked[0]["requests"]] == [2, 2]


async def test_numbers_are_taken_where_the_caller_wants_base64(gemini: Gemini, lane: LiteLLM) -> None:
    gemini.answer = {"embeddings": [{"values": [0.5, -2.0]}]}

    vectors = await embed(lane, input="a", encoding_format="base64")

    assert vectors == [[0.5, -2.0]]


BAD_VECTORS: dict[str, list[Any]] = {
    "one of two": [[0.1]],
    "three of two": [[0.1], [0.2], [0.3]],
    "an empty one": [[0.1], []],
    "of two lengths": [[0.1], [0.1, 0.2]],
    "of another length than asked for": [[0.1], [0.2]],
    "no numbers": [[0.1, 0.2], ["a", "b"]],
    "null": [[0.1, 0.2], [0.1, None]],
    "not a number": [[0.1, 0.2], [0.1, math.nan]],
    "infinite": [[0.1, 0.2], [0.1, math.inf]],
    "beyond float32": [[0.1, 0.2], [0.1, 1e300]],
}


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("vectors", BAD_VECTORS.values(), ids=BAD_VECTORS)
async def test_vectors_that_were_not_asked_for_are_no_good_answer(
    gemini: Gemini, lane: LiteLLM, vectors: list[Any], encoding: str
) -> None:
    gemini.answer = {"embeddings": [{"values": vector} for vector in vectors]}

    with pytest.raises(UpstreamProtocolError) as caught:
        await plain(lane, "embeddings", "gemini-embedding-2", input=["a", "b"], dimensions=2, encoding_format=encoding)

    assert caught.value.code == "upstream_bad_response"


async def test_tokens_of_another_vocabulary_are_refused_unasked(gemini: Gemini, lane: LiteLLM) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        await plain(lane, "embeddings", "gemini-embedding-2", input=[[1, 2]])

    assert (caught.value.param, gemini.asked) == ("input", [])


async def test_a_picture_is_given_as_base64(gemini: Gemini, lane: LiteLLM) -> None:
    parts = [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]
    gemini.answer = piece({"content": {"role": "model", "parts": parts}, "finishReason": "STOP"})

    body = await plain(lane, "images/generations", "gemini-3.1-flash-image", prompt="Cat", response_format="b64_json")

    assert body["data"] == [{"b64_json": PICTURE}]
    assert type(body["created"]) is int


async def test_a_stream_of_pictures_has_them_whole(gemini: Gemini, lane: LiteLLM) -> None:
    parts = [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]
    gemini.answer = piece({"content": {"role": "model", "parts": parts}, "finishReason": "STOP"})
    exchange = make_exchange(
        endpoint="images/generations", model="gemini-3.1-flash-image", body={"prompt": "Cat"}, stream=True
    )

    async with await lane.send(exchange) as reply:
        told = b"".join([block async for block in reply])

    kind, data, end = told.split(b"\n", 2)
    assert (kind, end) == (b"event: image_generation.completed", b"\n")
    event = orjson.loads(data.removeprefix(b"data: "))
    assert (event["type"], event["b64_json"]) == ("image_generation.completed", PICTURE)
    assert type(event["created_at"]) is int


@pytest.mark.parametrize("given", ["files/abc", ["a", "files/abc"]])
async def test_a_text_that_names_a_stored_file_is_never_looked_up(gemini: Gemini, lane: LiteLLM, given: Any) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        await plain(lane, "embeddings", "gemini-embedding-2", input=given)

    assert (caught.value.param, gemini.asked) == ("input", [])


async def test_leaving_a_picture_closes_the_upstream(gemini: Gemini, lane: LiteLLM) -> None:
    gemini.hangs = True
    task = asyncio.create_task(plain(lane, "images/generations", "gemini-3.1-flash-image", prompt="Cat"))
    await gemini.busy.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(gemini.left.wait(), 1)
