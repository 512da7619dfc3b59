"""Images that litellm asks for in threads: many at once, left before they began, and beside the event loop's own."""

from __future__ import annotations

import asyncio
import base64
import gc
import socket
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.errors import UpstreamTimeout
from gateway.providers import LiteLLMSettings
from gateway.providers.base import Exchange
from gateway.providers.litellm import LiteLLM
from gateway.providers.litellm_line import Line, Transport
from gateway.providers.litellm_threads import MOST_THREADS, Threads, ThreadTransport
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience

PICTURE = base64.b64encode(b"picture").decode()
ANSWER = {
    "candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]}}],
}


class Painter:
    """Holds every request until `free` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.left = 0
        self.free = asyncio.Event()
        self.busy = asyncio.Event()  # as many ask as there are threads

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked += 1
        if self.asked >= MOST_THREADS:
            self.busy.set()
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        return web.json_response(ANSWER)


@pytest.fixture
async def painter() -> Painter:
    return Painter()


@pytest.fixture
async def lane(painter: Painter) -> AsyncIterator[LiteLLM]:
    app = web.Application()
    app.router.add_post("/{any:.*}", painter.handle)
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("/")).replace("127.0.0.1", "localhost")  # a name has to be looked up
    provider = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix="gemini", base_url=url, api_key="AIzaCanary"))
    await provider.prepare()
    yield provider
    await provider.close()
    await server.close()


def picture(**seconds: float) -> Exchange:
    patience = make_patience(**seconds) if seconds else None
    return make_exchange(
        endpoint="images/generations", model="gemini-3.1-flash-image", body={"prompt": "Cat"}, patience=patience
    )


async def draw(lane: LiteLLM) -> bytes:
    async with await lane.send(picture()) as reply:
        return reply.body


async def fill(painter: Painter, lane: LiteLLM) -> list[asyncio.Task[bytes]]:
    """Return calls that occupy every thread."""
    tasks = [asyncio.create_task(draw(lane)) for _ in range(MOST_THREADS)]
    await asyncio.wait_for(painter.busy.wait(), 20)
    return tasks


async def test_more_pictures_than_threads_are_all_drawn(painter: Painter, lane: LiteLLM) -> None:
    tasks = await fill(painter, lane)
    tasks += [asyncio.create_task(draw(lane)) for _ in range(8)]

    painter.free.set()

    assert all(PICTURE.encode() in body for body in await asyncio.gather(*tasks))
    assert painter.asked == MOST_THREADS + 8


async def test_names_are_looked_up_while_every_picture_waits(painter: Painter, lane: LiteLLM) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    tasks = await fill(painter, lane)

    found = await asyncio.wait_for(loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM), 1)

    assert found
    painter.free.set()
    await asyncio.gather(*tasks)


async def test_a_call_that_is_left_before_its_turn_asks_nothing(painter: Painter, lane: LiteLLM) -> None:
    tasks = await fill(painter, lane)
    waiting = asyncio.create_task(draw(lane))
    await asyncio.wait([waiting], timeout=SHORT_SECONDS)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    painter.free.set()
    await asyncio.gather(*tasks)
    await draw(lane)  # whatever was before it has had its turn
    assert painter.asked == MOST_THREADS + 1


async def test_waiting_for_a_thread_is_within_the_patience(painter: Painter, lane: LiteLLM) -> None:
    tasks = await fill(painter, lane)

    with pytest.raises(UpstreamTimeout):
        await lane.send(picture(first_event=SHORT_SECONDS))

    painter.free.set()
    await asyncio.gather(*tasks)
    assert painter.asked == MOST_THREADS


async def test_a_line_that_was_closed_before_its_thread_came_to_it_asks_nothing(painter: Painter) -> None:
    app = web.Application()
    app.router.add_post("/", painter.handle)
    async with TestServer(app) as server:
        transport, threads = Transport(), Threads(1)
        request = httpx.Request("POST", str(server.make_url("/")), json={})
        line = Line(1.0, is_stream=False, begun=painter.busy.set)
        line.close()

        with pytest.raises(asyncio.CancelledError):
            await threads.run(ThreadTransport(transport, asyncio.get_running_loop()).handle_request, request=request)

        await threads.close()
        await transport.close()
    assert painter.asked == 0


async def test_a_coroutine_made_for_nobody_is_closed(recwarn: pytest.WarningsRecorder) -> None:
    threads, go_on = Threads(1), Event()

    async def ask() -> None:
        raise AssertionError

    def build() -> Coroutine[None, None, None]:
        go_on.wait()
        return ask()

    task = asyncio.create_task(threads.run(build))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    go_on.set()
    await threads.close()

    gc.collect()
    assert not recwarn.list


async def test_closing_leaves_every_picture(painter: Painter, lane: LiteLLM) -> None:
    tasks = await fill(painter, lane)
    for task in tasks:
        task.cancel()

    await asyncio.wait_for(lane.close(), 1)

    assert all(
        isinstance(left, asyncio.CancelledError) for left in await asyncio.gather(*tasks, return_exceptions=True)
    )
