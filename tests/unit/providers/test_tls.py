"""Only an upstream that proves who it is gets a word from us; everything else is one error that tells no details."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import aiohttp
import pytest

from gateway.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from gateway.providers import OpenAIWire
from tests.support.certificates import Root
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience
from tests.support.sockets import leave, serving, stall
from tests.support.upstream import ScriptedUpstream

ROOT, STRANGER = Root(), Root("Somebody else")
SERVERS: dict[str, Callable[[], ssl.SSLContext]] = {
    "expired": lambda: ROOT.serving(expired=True),
    "another host's": lambda: ROOT.serving("api.example"),
    "of an unknown root": STRANGER.serving,
}


def make_wire(base_url: str, context: ssl.SSLContext | None = None) -> OpenAIWire:
    trusted = context or ROOT.trusting()
    return OpenAIWire(
        "lab", base_url, api_key="sk-canary-0123456789", connect=lambda: aiohttp.TCPConnector(ssl=trusted)
    )


async def refusal(wire: OpenAIWire) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await wire.send(make_exchange(patience=make_patience(connect=SHORT_SECONDS)))
    await wire.close()
    return caught.value


async def test_an_upstream_that_proves_who_it_is_answers() -> None:
    async with ScriptedUpstream(tls=ROOT.serving()) as upstream:
        wire = make_wire(upstream.base_url)

        async with await wire.send(make_exchange()) as reply:
            body = reply.body

        await wire.close()
    assert b"chat.completion" in body


@pytest.mark.parametrize("name", SERVERS)
async def test_a_wrong_certificate_is_an_error_of_tls_and_no_request_is_sent(name: str) -> None:
    async with ScriptedUpstream(tls=SERVERS[name]()) as upstream:
        error = await refusal(make_wire(upstream.base_url))

    assert type(error) is UpstreamUnavailable
    assert (error.code, error.message) == ("upstream_tls_error", "No trusted TLS connection to the upstream.")
    assert upstream.requests == []


async def test_a_server_without_tls_is_never_spoken_to_in_the_clear() -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65_536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with serving(listen) as port:
        error = await refusal(make_wire(f"https://127.0.0.1:{port}/v1"))

    assert error.code == "upstream_tls_error"
    assert len(heard) == 1
    assert b"canary" not in heard[0]
    assert heard[0][0] == 0x16  # a handshake and nothing else


async def test_a_handshake_that_stalls_ends_at_the_connect_limit() -> None:
    async with serving(stall) as port:
        error = await refusal(make_wire(f"https://127.0.0.1:{port}/v1"))

    assert type(error) is UpstreamTimeout


async def test_a_connection_that_ends_within_the_handshake_is_an_error() -> None:
    async with serving(leave) as port:
        error = await refusal(make_wire(f"https://127.0.0.1:{port}/v1"))

    assert error.failover
    assert error.http_status == 502
