"""Callers' mistakes at Vertex, where litellm fetches a token before it looks at the request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from gateway.errors import UpstreamError, UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import MESSAGES, make_exchange

CLAUDE = "claude-sonnet-4-5"
GEMINI = "gemini-2.5-flash"


ODD: list[tuple[str, dict[str, Any]]] = [
    (GEMINI, {"reasoning_effort": "foo"}),
    (GEMINI, {"messages": [{"role": "user", "content": [{"type": "foo"}]}]}),
    (CLAUDE, {"messages": [{"role": "system", "content": "Hi"}]}),
    (CLAUDE, {"web_search_options": {"user_location": "x"}}),
    (CLAUDE, {"reasoning_effort": "foo"}),
    (CLAUDE, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
]


@pytest.fixture
async def asked() -> list[str]:
    """Return the paths of what came to the server, but for tokens."""
    return []


@pytest.fixture
async def lane(asked: list[str]) -> AsyncIterator[LiteLLM]:
    async def grant(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "ya29.canary", "expires_in": 3600, "token_type": "Bearer"})

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({}, status=500)

    app = web.Application()
    app.router.add_post("/token", grant)
    app.router.add_post("/{any:.*}", handle)
    server = TestServer(app)
    await server.start_server()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "project_id": "lab-1",
        "private_key_id": uuid4().hex,  # litellm remembers tokens by the whole of this, and ports come again
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "lab@lab-1.example",
        "token_uri": str(server.make_url("/token")),
    }
    options = {"vertex_project": "lab-1", "vertex_location": "europe-west1", "vertex_credentials": json.dumps(account)}
    settings = LiteLLMSettings(
        kind="litellm",
        prefix="vertex_ai",
        base_url=str(server.make_url("/")),
        options={name: SecretStr(value) for name, value in options.items()},
    )
    provider = LiteLLM("lab", settings)
    yield provider
    await provider.close()
    await server.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_cannot_be_put_is_the_callers(lane: LiteLLM, asked: list[str], stream: bool) -> None:
    for model, body in ODD:
        exchange = make_exchange(body={"model": "m", "messages": MESSAGES, **body}, model=model, stream=stream)

        with pytest.raises(UpstreamRejected) as caught:
            await lane.send(exchange)

        error: UpstreamError = caught.value
        assert (error.http_status, error.code) == (400, "invalid_value"), (model, body)
        assert "litellm" not in error.message.lower()
    assert asked == []
