"""A caller that reads nothing is cut; one that reads slowly is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from gateway.http import STALLED, EnvelopeRunner
from tests.support.contract import assert_error_obeys_contract

STALL_SECONDS = 0.2
PIECE = b"x" * 100_000


class Flood:
    """An application whose one answer has no end, and notes when its handler ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.application = web.Application()
        self.application.add_routes([web.get("/", self.answer), web.get("/defect", self.fail)])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(PIECE)
        finally:
            self.ended.set()

    async def fail(self, request: web.Request) -> web.StreamResponse:
        raise KeyError("inner-workings")


@asynccontextmanager
async def serving(application: web.Application, stall_seconds: float = STALL_SECONDS) -> AsyncIterator[int]:
    runner = EnvelopeRunner(application, stall_seconds=stall_seconds, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def connect(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.sock_sendall(connection, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


async def test_a_caller_that_reads_nothing_is_cut_and_told_of() -> None:
    flood = Flood()
    cut: list[str] = []
    flood.application[STALLED] = lambda: cut.append("one")
    async with serving(flood.application) as port:
        connection = await connect(port)

        async with asyncio.timeout(10 * STALL_SECONDS):
            await flood.ended.wait()
    connection.close()

    assert cut == ["one"]


async def test_a_caller_that_reads_slowly_is_not_cut() -> None:
    flood = Flood()
    loop = asyncio.get_running_loop()
    async with serving(flood.application, 2 * STALL_SECONDS) as port:
        connection = await connect(port)
        until = loop.time() + 5 * STALL_SECONDS
        while loop.time() < until:
            await loop.sock_recv(connection, 60_000)
            await asyncio.sleep(0.001)
        still_served = not flood.ended.is_set()

        connection.close()
        await flood.ended.wait()

    assert still_served


async def test_a_failure_that_no_middleware_saw_is_answered_with_the_envelope() -> None:
    async with (
        serving(Flood().application) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/defect") as response,
    ):
        body = await response.json()

    assert response.status == 500
    assert response.headers["x-request-id"].startswith("req_")
    assert assert_error_obeys_contract(body)["code"] == "internal_error"
    assert "inner-workings" not in str(body)


async def test_what_is_no_http_is_answered_with_the_envelope_and_an_end() -> None:
    async with serving(Flood().application) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")

        answer = await reader.read()
        writer.close()

    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b'"code":"invalid_http"' in answer
