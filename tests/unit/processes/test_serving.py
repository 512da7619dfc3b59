"""A worker ends in order: it says so, stops listening, lets answers finish, and only then breaks them off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from gateway.http.drain import Drain
from gateway.http.settings import ServerSettings
from gateway.processes.listening import listen, reserve
from gateway.processes.serving import serve
from gateway.processes.supervision import Stop


@dataclass
class Standin:
    """A worker with a tiny application: /quick answers, /echo returns its body, /stream sends `begun` and ends when `finish` is set."""

    stop: Stop
    drain: Drain
    url: str
    finish: asyncio.Event
    serving: asyncio.Task[None] = field(init=False)


def make_application(drain: Drain, finish: asyncio.Event) -> web.Application:
    async def quick(_request: web.Request) -> web.Response:
        return web.Response(text="draining" if drain.is_draining else "ok")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun,")
        try:
            await finish.wait()
        except asyncio.CancelledError:
            if not drain.is_cutting:
                raise
            await response.write(b"cut")
        else:
            await response.write(b"whole")
        await response.write_eof()
        return response

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)

    application = web.Application()
    application.add_routes(
        [web.get("/quick", quick), web.post("/echo", echo), web.get("/stream", stream), web.get("/flood", flood)]
    )
    return application


@asynccontextmanager
async def worker(**settings: float) -> AsyncIterator[Standin]:
    with closing(reserve("127.0.0.1", 0)) as held:
        drain, finish = Drain(), asyncio.Event()
        standin = Standin(Stop(), drain, f"http://127.0.0.1:{held.addresses[0].port}", finish)
        patience = ServerSettings(**settings)
        application = make_application(drain, finish)
        standin.serving = asyncio.create_task(serve(application, drain, listen(held.addresses), patience, standin.stop))
        yield standin
        standin.stop.ask()
        standin.stop.ask()
        await standin.serving


async def begin(session: aiohttp.ClientSession, standin: Standin) -> aiohttp.ClientResponse:
    response = await session.get(f"{standin.url}/stream")
    assert await response.content.readexactly(6) == b"begun,"
    return response


async def text_of(session: aiohttp.ClientSession, standin: Standin) -> str:
    async with session.get(f"{standin.url}/quick") as response:
        return await response.text()


async def test_an_idle_worker_ends_at_once_although_a_connection_is_kept_alive() -> None:
    async with worker(grace_seconds=3600) as standin, aiohttp.ClientSession() as session:
        await text_of(session, standin)

        standin.stop.ask()

        await asyncio.wait_for(standin.serving, timeout=1)


async def test_a_connection_that_never_asked_anything_does_not_hold_the_end_back() -> None:
    async with worker(grace_seconds=3600) as standin:
        _, writer = await asyncio.open_connection("127.0.0.1", int(standin.url.rpartition(":")[2]))
        await asyncio.sleep(0.05)

        standin.stop.ask()

        await asyncio.wait_for(standin.serving, timeout=1)
        writer.close()


async def test_during_the_accept_grace_new_requests_are_answered_and_told_of_the_end() -> None:
    async with (
        worker(accept_grace_seconds=60) as standin,
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession() as other,
    ):
        running = await begin(session, standin)
        standin.stop.ask()
        await asyncio.sleep(0.05)

        assert await text_of(other, standin) == "draining"
        standin.finish.set()
        await running.read()


async def test_an_idle_worker_needs_no_accept_grace() -> None:
    async with worker(accept_grace_seconds=60) as standin, aiohttp.ClientSession() as session:
        await text_of(session, standin)

        standin.stop.ask()

        await asyncio.wait_for(standin.serving, timeout=1)


async def test_after_the_accept_grace_nobody_new_is_let_in_while_a_stream_goes_on() -> None:
    async with (
        worker(accept_grace_seconds=0.1) as standin,
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession() as other,
    ):
        running = await begin(session, standin)
        standin.stop.ask()

        async with asyncio.timeout(5):
            while True:
                try:
                    await text_of(other, standin)
                except aiohttp.ClientConnectionError:
                    break
        standin.finish.set()

        assert await running.read() == b"whole"
        await asyncio.wait_for(standin.serving, timeout=1)


async def test_a_stream_longer_than_the_grace_is_broken_off_with_its_own_words() -> None:
    async with worker(accept_grace_seconds=0, grace_seconds=0.1) as standin, aiohttp.ClientSession() as session:
        running = await begin(session, standin)

        standin.stop.ask()

        assert await running.read() == b"cut"
        await asyncio.wait_for(standin.serving, timeout=1)


async def test_insisting_breaks_streams_off_at_once() -> None:
    async with worker(grace_seconds=3600, accept_grace_seconds=60) as standin, aiohttp.ClientSession() as session:
        running = await begin(session, standin)

        standin.stop.ask()
        standin.stop.ask()

        assert await asyncio.wait_for(running.read(), timeout=1) == b"cut"
        await asyncio.wait_for(standin.serving, timeout=1)


async def test_a_body_that_is_still_arriving_is_waited_for() -> None:
    async with worker(accept_grace_seconds=0, grace_seconds=3600) as standin, aiohttp.ClientSession() as session:
        first, rest = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"one "
            first.set()
            await rest.wait()
            yield b"two"

        asking = asyncio.create_task(session.post(f"{standin.url}/echo", data=body()))
        await first.wait()
        await asyncio.sleep(0.05)
        standin.stop.ask()
        await asyncio.sleep(0.05)
        rest.set()

        async with await asking as response:
            assert await response.text() == "one two"
        await asyncio.wait_for(standin.serving, timeout=1)


async def test_a_caller_that_does_not_read_cannot_hold_the_end_back() -> None:
    async with worker(accept_grace_seconds=0, grace_seconds=0.1) as standin:
        _, writer = await asyncio.open_connection("127.0.0.1", int(standin.url.rpartition(":")[2]), limit=1)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.1)

        standin.stop.ask()

        await asyncio.wait_for(standin.serving, timeout=3)
        writer.close()


def test_what_is_imported_early_leaves_the_metrics_for_later() -> None:
    code = "import sys, gateway.processes.serving as s; [s.import_module(room) for room in s.WARM_ROOMS]; print('prometheus_client' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout == "False\n"
