"""Connections of callers: what is answered where no request came about, and how long an answer may lie unread.

aiohttp would answer bytes that are not HTTP in plain text and write a trace for each; clients of OpenAI read JSON only.
And it would wait for ever for a caller that reads nothing more, holding its answer, its stream and the upstream.
"""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

from aiohttp import web

from gateway import logs
from gateway.call import Record
from gateway.errors import ExpectationFailed, GatewayError, InternalError, InvalidRequest
from gateway.http.answers import error_response
from gateway.http.lifecycle import SURROUND

# Callers that read 1 KiB a second must be told from those that read nothing, and the system opens a window in steps of up
# to 64 KiB.
STALL_SECONDS = 90.0
SEND_BUFFER_BYTES = 256 * 1024  # left to itself the system takes megabytes for a caller that does not read


STALLED: web.AppKey[Callable[[], None]] = web.AppKey("stalled")  # what is told of each caller that was cut


class EnvelopeRunner(web.AppRunner):
    """Runs an application, with what it has under SURROUND, on connections that answer all in OpenAI's envelope.

    A connection whose caller took nothing of a waiting answer for `stall_seconds` is cut, and STALLED is told.
    """

    __slots__ = ("_stall_seconds",)

    def __init__(self, application: web.Application, *, stall_seconds: float = STALL_SECONDS, **options: Any) -> None:
        # Compressed bodies are refused by body.py; unpacking them first would let a small one cost much.
        super().__init__(application, auto_decompress=False, **options)
        self._stall_seconds = stall_seconds

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler: Any = made.request_handler  # it is given the application's own kind of request
        if SURROUND in self.app:
            handler = self.app[SURROUND](handler)
        server = _Server(
            handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        server.stall_seconds = self._stall_seconds
        server.tell_stalled = self.app.get(STALLED, server.tell_stalled)
        return server


def _tell_nobody() -> None:
    return None


class _Server(web.Server):
    stall_seconds = STALL_SECONDS
    tell_stalled: Callable[[], None] = staticmethod(_tell_nobody)

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self.stall_seconds, self.tell_stalled, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_stall_seconds", "_stall_timer", "_tell_stalled", "_unsent_bytes", "request_id")

    def __init__(
        self, server: web.Server, stall_seconds: float, tell_stalled: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(server, **options)
        self.request_id = ""  # of what is or was answered last: an answer may wait to be read when its request is over
        self._tell_stalled = tell_stalled
        self._stall_seconds = stall_seconds
        self._stall_timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        self._forget_stall()
        super().resume_writing()

    def _watch_stall(self) -> None:
        if self.transport is not None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._stall_timer = self._loop.call_later(self._stall_seconds, self._check_stall)

    def _check_stall(self) -> None:
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < self._unsent_bytes:  # slow, but it reads
            self._watch_stall()
        else:
            self._tell_stalled()
            logs.event("caller_cut", level="warning", request_id=self.request_id, unsent_bytes=self._unsent_bytes)
            self.transport.abort()

    def _forget_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what failed before or behind the application; the connection is closed after it."""
        record = Record(f"req_{os.urandom(12).hex()}", 0.0)
        if request.writer.output_size > 0:
            raise ConnectionError("An answer was already begun.")
        response = error_response(_failure(status, exc, record), record)
        response.headers["x-request-id"] = record.request_id
        response.force_close()
        return response


async def meet_expectation(request: web.Request) -> None:
    """Answer an `Expect` header: go on; raises ExpectationFailed for what nobody can meet."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer, whose size tells whether one was begun
        return
    raise ExpectationFailed("Only 'Expect: 100-continue' can be met.")


def _failure(status: int, exc: BaseException | None, record: Record) -> GatewayError:
    if status < 500:
        # What aiohttp says of it quotes the bytes, which are anybody's.
        return InvalidRequest("The request is not valid HTTP/1.1.", code="invalid_http")
    trace: Any = traceback.format_exception(exc) if exc is not None else ""
    logs.event("defect", level="error", request_id=record.request_id, trace="".join(trace))
    return InternalError("The gateway failed to answer this request; the log has the details.")
