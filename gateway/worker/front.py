"""What stands before a model: HTTP on its Unix socket, a fair queue, and the model's answers passed on.

The wire is that of llama.cpp's server, errors too. What must not live here: which request is next (`fair_queue.py`), how a
model is asked (its engine), and when the process ends (`process.py`).
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.fair_queue import FairQueue, QueueFull, Ticket
from gateway.worker.front_refusals import LARGEST_BODY_BYTES, Handler, Refusal, answer_or_refuse, refusing
from gateway.worker.own_tokens import TOKENIZE
from gateway.worker.token_count import TokenCount
from gateway.worker.told import body_of
from gateway.worker.turns import Turns, ask_in_turns, work_of

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank")
BACKLOG = 1024
# A connection that was made just before the model is unloaded may take so long to bring its request.
LAST_LOOKS, LAST_LOOK_SECONDS = 20, 0.05
EVENT_STREAM = "text/event-stream"

TOKENS = web.RequestKey("tokens", TokenCount)


@dataclass(frozen=True, slots=True)
class Manners:
    """How requests are treated: `max_wait` and `keep_alive` in seconds, the latter None for ever.

    With `exclusive` no request profits from what an earlier one left behind, so that answers can be repeated.
    """

    max_wait: float
    keep_alive: float | None = None
    exclusive: bool = False


class _EventStream(web.StreamResponse):
    _send_headers_immediately = False  # they go out with the first event


class Front:
    """Serves `model`; `tell` gets "busy" when the first request begins and "idle" when the last one has ended, and
    "leaving" when no more are taken.

    `work` is a file that always has the names of the requests at work: should this process end, it tells by which.
    """

    def __init__(
        self,
        model: LoadedModel,
        queue: FairQueue,
        manners: Manners,
        tell: Callable[[str], None] = lambda _: None,
        work: Path | None = None,
    ) -> None:
        self._model = model
        self._queue = queue
        self._manners = manners
        self._tell = tell
        self._work = work
        self._present = 0
        self._tickets: dict[str, Ticket] = {}  # by the name that the request was given by who sent it
        self._unused: asyncio.TimerHandle | None = None
        self._is_over = asyncio.Event()

    @property
    def seconds_a_token(self) -> float | None:
        """How long the model takes for a token, None before that was measured."""
        return self._queue.pace.seconds_a_token

    async def serve(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        """Serve on `listener`, tell `ready`, and return when nobody has asked for `keep_alive` seconds."""
        runner = web.AppRunner(self._application(), access_log=None, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.SockSite(runner, listener, backlog=BACKLOG)
            await site.start()
            ready()
            self._rest()
            await self._is_over.wait()
            # Who connects from here on is met by the next process. A server that closes drops what it has just accepted,
            # so that is given the time to become a connection.
            asyncio.get_running_loop().remove_reader(listener)
            self._tell("leaving")
            await asyncio.sleep(LAST_LOOK_SECONDS)
            await site.stop()
            await self._see_out(runner)
        finally:
            await runner.cleanup()
            await self._model.close()

    def leave(self) -> None:
        """Have `serve` return once the requests that are here are answered; others are met by the next process."""
        self._is_over.set()

    async def _see_out(self, runner: web.AppRunner) -> None:
        looks = 0
        while self._present or (looks < LAST_LOOKS and runner.server is not None and runner.server.connections):
            looks += 1
            await asyncio.sleep(LAST_LOOK_SECONDS)

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=LARGEST_BODY_BYTES, middlewares=[refusing])
        application.router.add_get("/health", _health)
        application.router.add_get("/queue/{request}", self._tell_place)
        for path in PATHS:
            application.router.add_post(path, self._attend)
        application.router.add_post(TOKENIZE, partial(self._attend, work=self._take_apart))
        return application

    async def _take_apart(self, request: web.Request) -> web.StreamResponse:
        """Tell the tokens of a text, which takes no turn: the engine does it beside what it is at."""
        try:
            answer = await self._model.ask(TOKENIZE, await self._read(request))
            return web.Response(body=await body_of(answer), status=answer.status, content_type=answer.content_type)
        except ConnectionError as error:
            raise Refusal(500, "server_error", f"The model gave no answer: {error}.") from error

    async def _attend(self, request: web.Request, work: Handler | None = None) -> web.StreamResponse:
        """Count the request as present until its whole answer is with the kernel, for then this process may end."""
        self._enter()
        try:
            if request.transport is not None:
                request.transport.set_write_buffer_limits(0)  # what waits in this process would be lost with it
            response = await answer_or_refuse(request, work or self._take)
            with suppress(ConnectionError):  # the caller is gone
                await response.prepare(request)
                await response.write_eof()
            return response
        finally:
            self._leave()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        async with self._place(request, body) as ticket:
            return await self._answer(request, body, ticket)

    async def _tell_place(self, request: web.Request) -> web.Response:
        """Tell how a request fares: the seconds since its turn came, null while it waits, and how long all here take."""
        ticket = self._tickets.get(request.match_info["request"])
        if ticket is None:
            raise Refusal(404, "not_found_error", "No such request is here.")
        now = asyncio.get_running_loop().time()
        seconds = None if ticket.began is None else now - ticket.began
        return web.json_response({"seconds": seconds, "retry_after": self._queue.wait_seconds(now)})

    async def _read(self, request: web.Request) -> dict[str, Any]:
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise Refusal(400, "invalid_request_error", f"The body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refusal(400, "invalid_request_error", "The body is not a JSON object.")
        return body | {"cache_prompt": False} if self._manners.exclusive else body

    @asynccontextmanager
    async def _place(self, request: web.Request, body: Body) -> AsyncIterator[Ticket]:
        """Hold a place for a request, from its turn on; however the block ends, the place is free then."""
        clock = asyncio.get_running_loop().time
        turn = asyncio.Event()
        try:
            ticket = self._queue.enter(
                request.headers.get("x-gateway-caller", ""),
                clock(),
                turn.set,
                work=work_of(request.path, body),
                most_waiting=_count(request.headers.get("x-gateway-max-queue")),
                alone="x-gateway-alone" in request.headers,
            )
        except QueueFull as full:
            raise Refusal(503, "queue_full", "Too many requests wait.", _retry(full.retry_after)) from full
        tokens = request[TOKENS] = TokenCount()
        name = request.headers.get("x-gateway-request", "")
        self._tickets[name] = ticket
        try:
            async with asyncio.timeout(self._manners.max_wait):
                await turn.wait()
        except TimeoutError:
            headers = _retry(self._queue.wait_seconds(clock())) | _told(ticket, clock())
            raise Refusal(503, "queue_timeout", "The request waited too long for its turn.", headers) from None
        else:
            self._write_down()
            yield ticket
        finally:
            self._tickets.pop(name, None)
            self._queue.leave(ticket, clock(), tokens.total)
            self._write_down()

    def _write_down(self) -> None:
        if self._work is not None:
            names = [name for name, ticket in self._tickets.items() if ticket.began is not None]
            with suppress(OSError):  # a full disk must not end the model's work
                self._work.write_text("\n".join(names), encoding="utf-8")

    async def _answer(self, request: web.Request, body: Body, ticket: Ticket) -> web.StreamResponse:
        try:
            turns = Turns(self._queue, ticket, self._manners.max_wait, self._write_down)
            answer = await ask_in_turns(self._model, request.path, body, turns)
        except ConnectionError as error:
            raise Refusal(500, "server_error", f"The model gave no answer: {error}.", _told(ticket)) from error
        try:
            headers = _told(ticket) | {"Content-Type": answer.content_type}
            if answer.status == 503:
                headers |= _retry(self._queue.wait_seconds(asyncio.get_running_loop().time()))
            if answer.status == 200 and answer.content_type == EVENT_STREAM:
                return await self._relay(request, answer, headers)
            pieces = [piece async for piece in _counted(answer, request[TOKENS])]
            return web.Response(body=b"".join(pieces), status=answer.status, headers=headers)
        except ConnectionError as error:
            raise Refusal(500, "server_error", f"The model broke off: {error}.", _told(ticket)) from error
        finally:
            await answer.close()

    async def _relay(self, request: web.Request, answer: Answer, headers: Mapping[str, str]) -> web.StreamResponse:
        response = _EventStream(headers=headers)
        await response.prepare(request)
        try:
            async for block in _counted(answer, request[TOKENS]):
                await response.write(block)
        except ConnectionError:
            if request.transport is not None:
                request.transport.abort()  # an end in good order would say that the answer was whole
            return response
        await response.write_eof()
        return response

    def _enter(self) -> None:
        self._present += 1
        if self._present == 1:
            self._tell("busy")
            if self._unused is not None:
                self._unused.cancel()

    def _leave(self) -> None:
        self._present -= 1
        if self._present == 0:
            self._tell("idle")
            self._rest()

    def _rest(self) -> None:
        if self._manners.keep_alive is not None:
            loop = asyncio.get_running_loop()
            self._unused = loop.call_later(self._manners.keep_alive, self._is_over.set)


async def _counted(answer: Answer, tokens: TokenCount) -> AsyncIterator[bytes]:
    async for block in answer:
        tokens.feed(block)
        yield block


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _told(ticket: Ticket, now: float | None = None) -> dict[str, str]:
    """Return what an answer says of the queue; `now` where the turn never came."""
    waited = ticket.waited if now is None else now - ticket.entered
    return {
        "x-gateway-queue-position": str(ticket.position),
        "x-gateway-queue-milliseconds": f"{waited * 1000:.3f}",
    }


def _retry(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
