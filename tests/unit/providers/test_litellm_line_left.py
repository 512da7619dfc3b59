"""Calls through litellm that are left while it builds their request, which it does in a thread."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.errors import UpstreamTimeout
from gateway.providers import LiteLLMSettings
from gateway.providers.base import Exchange
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience

MODELS = {"anthropic": "claude-haiku-4-5", "gemini": "gemini-3.8-flash"}


class Held(ThreadPoolExecutor):
    """Threads that give back what was built only when `free` is set."""

    def __init__(self) -> None:
        super().__init__(4)
        self.built = Event()
        self.free = Event()

    def submit(self, function: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        def hold() -> Any:
            result = function(*given, **named)
            self.built.set()
            self.free.wait()
            return result

        return super().submit(hold)


class Upstream:
    """A lane to an upstream that counts, and threads that hold back what the lane's calls ask."""

    def __init__(self) -> None:
        self.asked = 0
        self.threads = Held()

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked += 1
        return web.json_response({}, status=500)

    async def leave(self, prefix: str, exchange: Exchange, task_ends: Callable[[asyncio.Task[Any]], object]) -> Any:
        """Leave a call when its request is built but was not sent, and return how the call ended."""
        app = web.Application()
        app.router.add_post("/{any:.*}", self.handle)
        async with TestServer(app) as server:
            url = str(server.make_url("/"))
            lane = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix=prefix, base_url=url, api_key="canary"))
            await lane.prepare()
            asyncio.get_running_loop().set_default_executor(self.threads)
            before = asyncio.all_tasks()
            task = asyncio.create_task(lane.send(exchange))
            while not self.threads.built.is_set():
                await asyncio.sleep(0)
            task_ends(task)
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            self.threads.free.set()
            if left := asyncio.all_tasks() - before - {task}:
                await asyncio.wait(left)
            await lane.close()
        gc.collect()
        return ended


@pytest.mark.parametrize("kind", ["plain", "stream"])
@pytest.mark.parametrize("prefix", sorted(MODELS))
async def test_a_call_that_is_left_while_it_is_built_asks_nothing_and_says_nothing(
    prefix: str, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    upstream = Upstream()

    ended = await upstream.leave(
        prefix, make_exchange(model=MODELS[prefix], stream=kind == "stream"), asyncio.Task.cancel
    )

    assert isinstance(ended, asyncio.CancelledError)
    assert upstream.asked == 0
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []


async def test_a_call_that_is_late_while_it_is_built_asks_nothing(recwarn: pytest.WarningsRecorder) -> None:
    upstream = Upstream()
    patience = make_patience(first_event=SHORT_SECONDS)

    ended = await upstream.leave(
        "anthropic", make_exchange(model=MODELS["anthropic"], patience=patience), lambda _: None
    )

    assert isinstance(ended, UpstreamTimeout)
    assert upstream.asked == 0
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []
