"""No provider of the litellm lane is led away from its upstream, over whatever connections litellm would ask it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr, ValidationError

from gateway.call import Endpoint
from gateway.errors import GatewayError, UpstreamUnavailable
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from gateway.providers.litellm_engine import load
from gateway.providers.litellm_opening import Lent, LentToThread, WouldBlock, take_over
from gateway.providers.litellm_prefixes import PROVEN
from tests.support.exchanges import MESSAGES, make_exchange, make_patience
from tests.support.reached import reached_hosts

KEY = "sk-canary-0123456789"
AWS = {"aws_region_name": "us-east-1", "aws_access_key_id": "AK", "aws_secret_access_key": "x"}
OPTIONS: dict[str, dict[str, str]] = {
    "amazon_nova": AWS,
    "azure": {"api_version": "2024-10-21"},
    "azure_text": {"api_version": "2024-10-21"},
    "bedrock": AWS,
    "bedrock_mantle": AWS,
}
CHAT_MODELS = {"bedrock": "us.amazon.nova-2-lite-v1:0", "clarifai": "openai.chat.gpt"}
VECTOR_MODELS = {"bedrock": "amazon.titan-embed-text-v2:0"}
PATHS = {"triton": "/generate"}
CALLS: dict[str, tuple[Endpoint, dict[str, Any], bool]] = {
    "chat": ("chat/completions", {"model": "m", "messages": MESSAGES}, False),
    "stream": ("chat/completions", {"model": "m", "messages": MESSAGES}, True),
    "embeddings": ("embeddings", {"model": "m", "input": "a"}, False),
    "images": ("images/generations", {"model": "m", "prompt": "Cat"}, False),
}
# Proven in test_litellm_vertex.py, since it asks Google for a token first.
OTHERS = sorted(PROVEN - {"vertex_ai"})


class Upstream:
    """Answers every request with `status`, and with a redirect to a canary if that is 307."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 307
        self.led = 0
        self.canary = TestServer(web.Application())
        self.server = TestServer(web.Application())
        self.canary.app.router.add_route("*", "/{any:.*}", self._lead)
        self.server.app.router.add_route("*", "/{any:.*}", self._answer)

    async def _lead(self, _: web.Request) -> web.Response:
        self.led += 1
        return web.json_response({})

    async def _answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked += 1
        headers = {"Location": str(self.canary.make_url("/stolen"))} if self.status == 307 else {}
        return web.json_response({"error": {"message": "No"}}, status=self.status, headers=headers)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    async with upstream.canary, upstream.server:
        yield upstream


def make_lane(prefix: str, url: str) -> LiteLLM:
    options = {name: SecretStr(value) for name, value in OPTIONS.get(prefix, {}).items()}
    url = url.rstrip("/") + PATHS.get(prefix, "")
    return LiteLLM(
        "lab", LiteLLMSettings(kind="litellm", prefix=prefix, base_url=url, api_key=SecretStr(KEY), options=options)
    )


async def ask(lane: LiteLLM, prefix: str, call: str) -> GatewayError:
    endpoint, body, stream = CALLS[call]
    models = VECTOR_MODELS if call == "embeddings" else CHAT_MODELS
    exchange = make_exchange(
        endpoint=endpoint, model=models.get(prefix, "m"), body=body, stream=stream, patience=make_patience(total=10)
    )
    with pytest.raises(GatewayError) as caught:
        await lane.send(exchange)
    return caught.value


async def outcomes(upstream: Upstream, prefix: str, expected: str) -> list[str]:
    """Return what is not as it should be when `prefix` is asked in every way: once at most, with the `expected` error."""
    wrong: list[str] = []
    asked = 0
    lane = make_lane(prefix, str(upstream.server.make_url("/")))
    for call in CALLS:
        upstream.asked = 0
        error = await ask(lane, prefix, call)
        asked += upstream.asked
        if upstream.asked > 1 or (upstream.asked and error.code != expected):
            wrong.append(f"{prefix} {call}: asked {upstream.asked} times, {error.code} {error.message}")
    await lane.close()
    return wrong if asked else [*wrong, f"{prefix} was never asked"]


async def test_no_redirect_is_followed_by_any_provider_that_may_be_asked(upstream: Upstream) -> None:
    load("openai")
    wrong: list[str] = []

    with reached_hosts() as reached:
        for prefix in OTHERS:
            wrong += await outcomes(upstream, prefix, "upstream_redirect")

    assert wrong == []
    assert upstream.led == 0
    assert reached <= {"127.0.0.1"}


async def test_no_provider_is_asked_again_after_a_failure(upstream: Upstream) -> None:
    """Trying again is for `routing/`, which knows where else to ask; litellm would do it in some of its clients."""
    upstream.status = 500
    wrong: list[str] = []

    for prefix in OTHERS:
        wrong += await outcomes(upstream, prefix, "upstream_error")

    assert wrong == []


@pytest.mark.parametrize("prefix", ["azure", "cohere_chat", "fireworks_ai", "mistral", "openai"])
@pytest.mark.parametrize("call", ["chat", "stream", "embeddings"])
async def test_an_upstream_that_is_not_there_is_said_at_once(prefix: str, call: str) -> None:
    server = TestServer(web.Application())
    async with server:
        lane = make_lane(prefix, str(server.make_url("/")))
    await lane.prepare()

    began = asyncio.get_running_loop().time()
    error = await ask(lane, prefix, call)
    await lane.close()

    assert isinstance(error, UpstreamUnavailable)
    assert error.code == "upstream_unreachable"
    assert asyncio.get_running_loop().time() - began < 0.5  # OpenAI's client would wait before it tries again


def test_no_client_that_litellm_opened_has_connections_of_its_own() -> None:
    """All in this process: those of other tests too, and those that litellm opens while it is imported."""
    import httpx

    library = load("openai")
    handlers = (library.module_level_aclient, library.module_level_client)

    clients = [thing for thing in gc.get_objects() if isinstance(thing, httpx.Client | httpx.AsyncClient)]
    foreign = [client for client in clients if type(client._transport).__module__.startswith("litellm.")]

    assert all(isinstance(handler.client._transport, Lent | LentToThread) for handler in handlers)
    assert foreign == []


def test_a_version_of_litellm_that_opens_connections_otherwise_is_not_used() -> None:
    load("openai")

    with pytest.raises(ImportError, match="has no aclient_session"):
        take_over(SimpleNamespace())


async def test_nothing_waits_for_an_upstream_on_the_event_loop(upstream: Upstream) -> None:
    library = load("openai")

    with pytest.raises(WouldBlock):
        library.module_level_client.post(str(upstream.server.make_url("/")), json={})

    assert upstream.asked == 0


@pytest.mark.parametrize("prefix", ["azure", "cohere_chat", "mistral"])
async def test_an_answer_without_end_is_given_up(prefix: str) -> None:
    async def pour(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b" " * 2**20)
        return response

    server = TestServer(web.Application())
    server.app.router.add_route("*", "/{any:.*}", pour)
    async with server:
        lane = make_lane(prefix, str(server.make_url("/")))
        error = await ask(lane, prefix, "chat")
        await lane.close()

    assert error.code == "upstream_reply_too_large"


@pytest.mark.parametrize("prefix", ["petals", "aiohttp_openai", "huggingface", "nobody"])
def test_a_provider_that_is_not_proven_is_a_mistake(prefix: str) -> None:
    with pytest.raises(ValidationError, match="not proven to keep to its base_url"):
        LiteLLMSettings(kind="litellm", prefix=prefix)
