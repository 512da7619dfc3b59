"""The few functions of litellm that block a thread: threads of their own, asking over the same lines as the rest.

The event loop's own threads stay free, because every name of every upstream is looked up in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.providers.litellm_line import Line, Transport, current_line

if TYPE_CHECKING:
    import httpx

MOST_THREADS = 32  # each waits for one answer
_PARTING_SECONDS = 1.0


class Threads:
    """Runs functions that block, at most `most` at once; whoever waits for a free thread can leave unasked."""

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._pool: ThreadPoolExecutor | None = None
        self._running: set[Future[Any]] = set()

    async def run(self, function: Callable[..., Any], **made: Any) -> Any:
        """Return what `function` returns in a thread that sees the variables of this task's context.

        Left before it was begun, it is never called; left later, its result is dropped.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="litellm")
        called = self._pool.submit(copy_context().run, partial(function, **made))
        self._running.add(called)
        called.add_done_callback(self._running.discard)
        try:
            return await asyncio.wrap_future(called)
        except asyncio.CancelledError:
            called.add_done_callback(_drop)
            raise

    async def close(self) -> None:
        """Call nothing any more, and give what is being called a moment to end."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            if self._running:
                await asyncio.to_thread(wait, tuple(self._running), _PARTING_SECONDS)


class ThreadTransport:
    """httpx's transport for a thread, whose answers come over the lines of the event loop."""

    def __init__(self, transport: Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask from a thread and wait there; leaving the call ends the waiting."""
        import httpx

        line = current_line()
        request.read()
        body = asyncio.run_coroutine_threadsafe(self._ask(request, line), self._loop).result()
        return httpx.Response(line.status, headers=line.headers, content=body, request=request)

    def close(self) -> None:
        """Do nothing: the connections are the other transport's."""

    async def _ask(self, request: httpx.Request, line: Line) -> bytes:
        line.asking = asyncio.ensure_future(self._read(request, line))
        return await line.asking

    async def _read(self, request: httpx.Request, line: Line) -> bytes:
        return b"".join([piece async for piece in await self._transport.ask(request, line)])


def _drop(called: Future[Any]) -> None:
    """Close a coroutine that nobody is left to await."""
    if not called.cancelled() and called.exception() is None and asyncio.iscoroutine(called.result()):
        called.result().close()
