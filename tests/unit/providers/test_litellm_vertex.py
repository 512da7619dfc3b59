"""The litellm lane against a small server that is both what Vertex is: an upstream, and where its tokens come from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from gateway.call import Endpoint, Usage
from gateway.errors import GatewayError, UpstreamError, UpstreamProtocolError, UpstreamRateLimited, UpstreamRejected
from gateway.providers import LiteLLMSettings, PlainReply
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import MESSAGES, make_exchange
from tests.support.reached import reached_hosts

CLAUDE = "claude-sonnet-5-5"
GEMINI = "gemini-3.8-flash"
TOKEN = "ya29.canary-0123456789"
PLACE = "/v1/projects/lab-1/locations/europe-west1/publishers"
CLAUDE_ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": CLAUDE,
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
CLAUDE_EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            **CLAUDE_ANSWER,
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 4},
    },
    {"type": "message_stop"},
]


def gemini_piece(text: str, **more: Any) -> dict[str, Any]:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"content": content, "index": 0, **more}], "usageMetadata": usage, "modelVersion": GEMINI}


class Vertex:
    """Answers with `status` and `answer`, with `events` where a stream is asked for, or with a redirect to `elsewhere`."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: dict[str, Any] = CLAUDE_ANSWER
        self.events = CLAUDE_EVENTS
        self.elsewhere = ""
        self.token_status = 200
        self.grants: list[dict[str, list[str]]] = []
        self.asked: list[tuple[str, str, dict[str, Any]]] = []  # path, authorization, body
        self.led = 0

    async def grant(self, request: web.Request) -> web.Response:
        self.grants.append(parse_qs((await request.read()).decode()))
        if self.token_status != 200:
            return web.json_response({"error": "invalid_grant", "error_description": "No"}, status=self.token_status)
        return web.json_response({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.asked.append((request.path, request.headers.get("Authorization", ""), body))
        if self.elsewhere:
            return web.Response(status=307, headers={"Location": self.elsewhere})
        if self.status != 200:
            return web.json_response({"error": {"message": "Slow", "code": self.status}}, status=self.status)
        if ":stream" not in request.path:
            return web.json_response(self.answer)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events:
            head = f"event: {event['type']}\n" if "type" in event else ""
            await response.write(f"{head}data: {json.dumps(event)}\n\n".encode())
        return response

    async def lead(self, _: web.Request) -> web.Response:
        self.led += 1
        return web.json_response({})


@pytest.fixture
async def vertex() -> Vertex:
    return Vertex()


@pytest.fixture
async def server(vertex: Vertex) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_post("/token", vertex.grant)
    app.router.add_post("/stolen", vertex.lead)
    app.router.add_post("/{any:.*}", vertex.handle)
    server = TestServer(app)
    async with server:
        yield server


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
async def lane(server: TestServer, private_key: str) -> AsyncIterator[LiteLLM]:
    account = {
        "type": "service_account",
        "project_id": "lab-1",
        "private_key_id": uuid4().hex,  # litellm remembers tokens by the whole of this, and ports come again
        "private_key": private_key,
        "client_email": "gateway@lab-1.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": str(server.make_url("/token")),
    }
    options = {
        "vertex_project": "lab-1",
        "vertex_location": "europe-west1",
        "vertex_credentials": json.dumps(account),
    }
    settings = LiteLLMSettings(
        kind="litellm",
        prefix="vertex_ai",
        base_url=str(server.make_url("/")),
        options={name: SecretStr(value) for name, value in options.items()},
    )
    provider = LiteLLM("lab", settings)
    await provider.prepare()
    with reached_hosts() as reached:
        yield provider
        await provider.close()
    assert reached <= {"127.0.0.1"}  # above all not the metadata service of the machine it runs on


async def read(lane: LiteLLM, model: str) -> tuple[list[dict[str, Any]], Usage | None]:
    async with await lane.send(make_exchange(model=model, stream=True)) as reply:
        events = b"".join([block async for block in reply]).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [orjson.loads(event.removeprefix(b"data: "))["choices"][0] for event in events[:-2]], reply.usage


async def test_claude_answers_for_a_token_of_the_service_account(vertex: Vertex, lane: LiteLLM) -> None:
    reply = await lane.send(make_exchange(model=CLAUDE))

    assert isinstance(reply, PlainReply)
    completion = orjson.loads(reply.body)
    assert completion["choices"][0]["message"]["content"] == "Hello"
    assert (completion["model"], reply.usage) == (CLAUDE, Usage(3, 4))
    (path, authorization, body) = vertex.asked[0]
    assert path == f"{PLACE}/anthropic/models/{CLAUDE}:rawPredict"
    assert authorization == f"Bearer {TOKEN}"
    assert body["messages"][0]["content"][0]["text"] == MESSAGES[0]["content"]
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert vertex.grants[0]["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]


async def test_claudes_stream_is_openais(vertex: Vertex, lane: LiteLLM) -> None:
    choices, usage = await read(lane, CLAUDE)

    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert choices[-1]["finish_reason"] == "stop"
    assert usage == Usage(3, 4)
    assert vertex.asked[0][0] == f"{PLACE}/anthropic/models/{CLAUDE}:streamRawPredict"


async def test_gemini_answers_and_streams(vertex: Vertex, lane: LiteLLM) -> None:
    vertex.answer = gemini_piece("Hello", finishReason="STOP")
    vertex.events = [gemini_piece("Hel"), gemini_piece("lo", finishReason="STOP")]

    reply = await lane.send(make_exchange(model=GEMINI))
    choices, usage = await read(lane, GEMINI)

    assert isinstance(reply, PlainReply)
    assert orjson.loads(reply.body)["choices"][0]["message"]["content"] == "Hello"
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Hello"
    assert (choices[-1]["finish_reason"], reply.usage, usage) == ("stop", Usage(3, 4), Usage(3, 4))
    assert [path for path, _, _ in vertex.asked] == [
        f"{PLACE}/google/models/{GEMINI}:generateContent",
        f"{PLACE}/google/models/{GEMINI}:streamGenerateContent",
    ]


@pytest.mark.parametrize("model", [CLAUDE, GEMINI])
async def test_the_parameters_of_functions_arrive_as_they_are(vertex: Vertex, lane: LiteLLM, model: str) -> None:
    vertex.answer = gemini_piece("Hello", finishReason="STOP") if model == GEMINI else CLAUDE_ANSWER
    schema = {"type": "object", "properties": {"a": {"type": "integer", "enum": [1, 2]}, "b": {"$ref": "#/$defs/B"}}}
    schema |= {"$defs": {"B": {"type": "object", "additionalProperties": {"type": "string"}}}}
    tool = {"type": "function", "function": {"name": "add", "parameters": schema}}

    await lane.send(make_exchange(model=model, body={"model": "m", "messages": MESSAGES, "tools": [tool]}))

    (told,) = vertex.asked[0][2]["tools"]
    if model == GEMINI:
        assert told == {"function_declarations": [{"name": "add", "parametersJsonSchema": schema}]}
    else:
        assert told["input_schema"] == schema


async def test_a_token_is_kept_for_later_calls(vertex: Vertex, lane: LiteLLM) -> None:
    await lane.send(make_exchange(model=CLAUDE))

    await asyncio.gather(*(lane.send(make_exchange(model=CLAUDE)) for _ in range(5)))

    assert len(vertex.asked) == 6
    assert len(vertex.grants) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_account_is_our_own_failure(vertex: Vertex, lane: LiteLLM, stream: bool) -> None:
    vertex.token_status = 400

    with pytest.raises(GatewayError) as caught:
        await lane.send(make_exchange(model=CLAUDE, stream=stream))

    assert isinstance(caught.value, UpstreamError)
    assert not isinstance(caught.value, UpstreamRejected)  # which would be the caller's
    assert TOKEN not in caught.value.message
    assert vertex.asked == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [CLAUDE, GEMINI])
async def test_a_refusal_has_its_error(vertex: Vertex, lane: LiteLLM, model: str, stream: bool) -> None:
    vertex.status = 429

    with pytest.raises(UpstreamRateLimited, match="Slow"):
        await lane.send(make_exchange(model=model, stream=stream))

    assert len(vertex.asked) == 1


CALLS: list[tuple[Endpoint, str, dict[str, Any], bool]] = [
    ("chat/completions", CLAUDE, {"messages": MESSAGES}, False),
    ("chat/completions", CLAUDE, {"messages": MESSAGES}, True),
    ("chat/completions", GEMINI, {"messages": MESSAGES}, False),
    ("chat/completions", GEMINI, {"messages": MESSAGES}, True),
    ("embeddings", "text-embedding-005", {"input": "a"}, False),
    ("images/generations", "imagen-4.0-generate-001", {"prompt": "Cat"}, False),
]


@pytest.mark.parametrize(("endpoint", "model", "body", "stream"), CALLS)
async def test_no_redirect_is_followed_with_the_token(
    vertex: Vertex,
    server: TestServer,
    lane: LiteLLM,
    endpoint: Endpoint,
    model: str,
    body: dict[str, Any],
    stream: bool,
) -> None:
    vertex.elsewhere = str(server.make_url("/stolen"))

    with pytest.raises(UpstreamProtocolError) as caught:
        await lane.send(make_exchange(endpoint=endpoint, model=model, body={"model": model, **body}, stream=stream))

    assert caught.value.code == "upstream_redirect"
    assert (vertex.led, len(vertex.asked)) == (0, 1)
