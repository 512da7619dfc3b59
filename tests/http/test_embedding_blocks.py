"""Large answers in base64, which are sent block by block: whole for whoever reads, and told of as they ended."""

from __future__ import annotations

import asyncio
import json
import socket
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from gateway.app import DRAIN
from tests.support.app import RunningGateway, make_config, running
from tests.support.embedding import embed, expected, make_caching, vectors_of
from tests.support.upstream import Embeddings, ScriptedUpstream

MANY = ["a"] * 2048  # of 1,536 numbers: 17 MB, more than all buffers between the gateway and its caller hold
SIZES = [(1, 12_000), (1, 60_000), (7, 1_538), (64, 1_536), (2_048, 7), (2_048, 1_537), (11, 30_001)]


@pytest.fixture
def upstream_of() -> Any:
    """Return an upstream whose vectors have so many numbers."""

    @asynccontextmanager
    async def start(size: int) -> AsyncIterator[ScriptedUpstream]:
        async with ScriptedUpstream() as upstream:
            upstream.otherwise = Embeddings(size=size)
            yield upstream

    return start


def request_bytes(given: Any, version: str = "1.1", *headers: str) -> bytes:
    content = json.dumps({"model": "embedding", "input": given, "encoding_format": "base64"}).encode()
    lines = ["Host: localhost", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([f"POST /v1/embeddings HTTP/{version}", *lines, "", ""]).encode() + content


async def connect(gateway: RunningGateway, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request from a caller whose system keeps as little as it can of what is not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(0)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", gateway.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    writer.write(sent)
    return reader, writer


async def head_of(reader: asyncio.StreamReader) -> tuple[str, int]:
    """Return an answer's head, in small letters, and the length that it tells."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    return head, int(next(line for line in head.split("\r\n") if line.startswith("content-length")).split(":")[1])


@pytest.mark.parametrize(("count", "size"), SIZES)
async def test_a_large_answer_is_whole(upstream_of: Any, count: int, size: int) -> None:
    given = [f"text {place % 5}" for place in range(count)]
    async with upstream_of(size) as upstream, running(make_caching(upstream)) as gateway:
        asked = await embed(gateway, given, encoding_format="base64")
        remembered = await embed(gateway, given, encoding_format="base64")

    foretold = dict(zip(given[:5], expected(*given[:5], size=size), strict=True))
    assert vectors_of(asked) == vectors_of(remembered) == [foretold[text] for text in given]
    assert int(remembered.headers["Content-Length"]) == len(remembered.body)
    assert remembered.headers["Content-Type"] == "application/json"
    assert remembered.headers["x-gateway-cache"] == f"hits={count} misses=0 memory={count}"
    assert remembered.headers["x-request-id"] != asked.headers["x-request-id"]


async def test_the_official_client_reads_a_large_answer_on_a_connection_that_goes_on(upstream_of: Any) -> None:
    given = [f"text {place}" for place in range(64)]
    async with upstream_of(1536) as upstream, running(make_caching(upstream)) as gateway, gateway.client() as client:
        answers = [await client.embeddings.create(model="embedding", input=given) for _ in range(3)]
        packed = await client.embeddings.create(model="embedding", input=given, encoding_format="base64")

    wanted = expected(*given, size=1536)
    assert [b64decode(str(item.embedding)) for item in packed.data] == wanted
    assert [item.index for item in packed.data] == list(range(64))
    assert answers[0].data == answers[1].data == answers[2].data
    assert len(upstream.requests) == 1


async def test_it_is_counted_and_written_down_as_any_other(upstream_of: Any) -> None:
    async with upstream_of(1536) as upstream, running(make_caching(upstream)) as gateway:
        answer = await embed(gateway, ["b", *MANY[1:]], encoding_format="base64")
        await embed(gateway, ["b", *MANY[1:]], encoding_format="base64")
        figures = await gateway.figures()

    assert figures["gateway_requests_total", "/v1/embeddings", "200", "embedding"] == 2
    asked, remembered = gateway.lines()[:2]
    assert asked["request_id"] == answer.headers["x-request-id"]
    assert [(line["status"], line["level"]) for line in (asked, remembered)] == [(200, "info")] * 2
    assert (asked["cache_misses"], remembered["cache_hits"]) == (2048, 2048)
    assert (asked["deployment"], asked["prompt_tokens"]) == ("up0/model", 2)


@pytest.mark.parametrize(
    ("version", "headers", "says", "stays"),
    [
        ("1.1", (), "", True),
        ("1.1", ("Connection: close",), "connection: close", False),
        ("1.0", (), "", False),
        ("1.0", ("Connection: keep-alive",), "connection: keep-alive", True),
    ],
)
async def test_the_connection_goes_on_where_both_want_it(
    upstream_of: Any, version: str, headers: tuple[str, ...], says: str, *, stays: bool
) -> None:
    sent = request_bytes(MANY[:64], version, *headers)
    async with upstream_of(1536) as upstream, running(make_caching(upstream)) as gateway:
        answers = 2 if stays else 1
        reader, writer = await connect(gateway, sent * answers)

        for _ in range(answers):
            head, length = await head_of(reader)
            body = await reader.readexactly(length)
            assert len(json.loads(body)["data"]) == 64
            assert says in head
            assert "transfer-encoding" not in head
        if not stays:
            assert await reader.read() == b""
        writer.close()


async def test_who_leaves_in_the_middle_is_written_down_as_gone(upstream_of: Any) -> None:
    async with upstream_of(1536) as upstream, running(make_caching(upstream)) as gateway:
        await embed(gateway, MANY)
        reader, writer = await connect(gateway, request_bytes(MANY))
        _, length = await head_of(reader)
        await reader.readexactly(100_000)

        writer.transport.abort()

        async with asyncio.timeout(5):
            while (await gateway.figures())["gateway_in_flight_requests",] > 1:
                await asyncio.sleep(0.001)
        figures = await gateway.figures()

    assert length > 16_000_000
    assert figures["gateway_requests_total", "/v1/embeddings", "499", "embedding"] == 1
    assert figures["gateway_client_disconnect_total", "answer"] == 1
    left = next(line for line in gateway.lines() if line["status"] == 499)
    assert (left["level"], left["cache_hits"], "error" in left) == ("info", 2048, False)


async def test_who_reads_slowly_gets_all_of_it_and_holds_nobody_up(upstream_of: Any) -> None:
    async with upstream_of(1536) as upstream, running(make_caching(upstream)) as gateway:
        await embed(gateway, MANY)
        reader, writer = await connect(gateway, request_bytes(MANY))
        _, length = await head_of(reader)

        meanwhile = [await embed(gateway, MANY, encoding_format="base64") for _ in range(3)]
        body = await reader.readexactly(length)
        writer.close()

    assert {answer.status for answer in meanwhile} == {200}
    assert json.loads(body)["data"][2047]["index"] == 2047


async def test_who_does_not_read_holds_a_block_and_not_an_answer(upstream_of: Any) -> None:
    process = psutil.Process()
    async with upstream_of(1536) as upstream, running(make_caching(upstream)) as gateway:
        await embed(gateway, MANY, encoding_format="base64")
        before = process.memory_info().rss

        callers = [await connect(gateway, request_bytes(MANY)) for _ in range(8)]
        lengths = [(await head_of(reader))[1] for reader, _ in callers]
        await embed(gateway, MANY, encoding_format="base64")
        grown = process.memory_info().rss - before
        for _, writer in callers:
            writer.transport.abort()

    assert sum(lengths) > 128_000_000
    assert grown < sum(lengths) / 2


async def test_an_answer_that_is_cut_by_the_end_is_short_and_has_no_second_head(upstream_of: Any) -> None:
    async with upstream_of(1536) as upstream, running(make_caching(upstream)) as gateway:
        await embed(gateway, MANY)
        reader, writer = await connect(gateway, request_bytes(MANY))
        _, length = await head_of(reader)

        gateway.stop.asked.set()
        gateway.stop.insisted.set()
        async with asyncio.timeout(10):
            body = await reader.read(-1)
            await gateway.serving
        writer.close()

    assert 0 < len(body) < length
    assert b"HTTP/1.1" not in body
    assert b"error" not in body
    cut = gateway.lines()[-1]
    assert (cut["status"], cut["level"], cut["error"]) == (200, "warning", "server_shutting_down")


async def test_who_asks_a_gateway_that_is_about_to_end_is_told_to_connect_anew(upstream_of: Any) -> None:
    async with upstream_of(1536) as upstream, running(make_config(upstream, aliases=("embedding",))) as gateway:
        gateway.application[DRAIN].begin()

        small = await embed(gateway, "a", encoding_format="base64")
        large = await embed(gateway, MANY[:64], encoding_format="base64")

    assert (small.headers["Connection"], large.headers["Connection"]) == ("close", "close")
    assert len(vectors_of(large)) == 64
