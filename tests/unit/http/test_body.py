"""A request's bytes become a checked call, or the deadline passes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.call import Call, Caller, Record
from gateway.errors import GatewayError
from gateway.http import EnvelopeRunner
from gateway.http.body import read_call
from gateway.http.lifecycle import RECORD
from gateway.wire import check_chat

BODY = b'{"model":"small","messages":[{"role":"user","content":"Hi"}],"stream":true}'
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def reading(deadline_seconds: float) -> AsyncIterator[tuple[int, list[Call]]]:
    """Serve the port that reads a call from every request and answers the error's code; gives the calls too."""
    calls: list[Call] = []

    async def read(request: web.Request) -> web.Response:
        request[RECORD] = Record("req_1", 0.0)
        try:
            calls.append(await read_call(request, Caller("app"), "chat/completions", check_chat, deadline_seconds))
        except GatewayError as error:
            return web.json_response({"code": error.code}, status=error.http_status)
        return web.json_response({"code": "ok"})

    application = web.Application()
    application.add_routes([web.post("/", read)])
    runner = EnvelopeRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], calls
    await runner.cleanup()


async def send(port: int, request: bytes) -> tuple[int, str]:
    """Return the answer's status and code."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    code = json.loads(await reader.readuntil(b"}"))["code"]
    writer.close()
    return int(head.split(b" ")[1]), code


async def test_a_call_has_the_body_the_caller_and_its_record() -> None:
    async with reading(5.0) as (port, calls):
        answer = await send(port, HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)

    (call,) = calls
    assert answer == (200, "ok")
    assert call.body == json.loads(BODY)
    assert (call.endpoint, call.alias, call.stream, call.caller.name) == ("chat/completions", "small", True, "app")
    assert (call.record.caller, call.record.model, call.record.stream) == ("app", "small", True)


async def test_a_body_that_stalls_is_given_up_at_its_deadline() -> None:
    async with reading(0.1) as (port, calls):
        answer = await send(port, HEAD + b"Content-Length: 1000\r\n\r\n" + BODY)

    assert answer == (408, "request_timeout")
    assert calls == []


async def test_a_chunked_body_that_stalls_is_given_up_too() -> None:
    async with reading(0.1) as (port, _):
        answer = await send(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")

    assert answer == (408, "request_timeout")


async def test_a_long_body_is_given_time_for_its_length() -> None:
    async with reading(0.0) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % (64 * 1024 + len(BODY)) + BODY)
        with_time = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(0.1)
        answered_early = with_time.done()

        writer.write(b" " * 64 * 1024)
        head = await with_time
        writer.close()

    assert not answered_early
    assert b" 200 " in head
