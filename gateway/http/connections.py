"""What is answered where no request came about: bytes that are not HTTP, or a failure outside of every middleware.

aiohttp would answer these in plain text and write a trace for each; clients of OpenAI read JSON only.
"""

from __future__ import annotations

import os
import traceback
from typing import Any

from aiohttp import web

from gateway import logs
from gateway.call import Record
from gateway.errors import GatewayError, InternalError, InvalidRequest
from gateway.http.answers import error_response


class EnvelopeRunner(web.AppRunner):
    """Runs an application on connections that answer everything in OpenAI's envelope."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

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


def _failure(status: int, exc: BaseException | None, record: Record) -> GatewayError:
    if status < 500:
        # What aiohttp says of it quotes the bytes, which are anybody's.
        return InvalidRequest("The request is not valid HTTP/1.1.", code="invalid_http")
    trace: Any = traceback.format_exception(exc) if exc is not None else ""
    logs.event("defect", level="error", request_id=record.request_id, trace="".join(trace))
    return InternalError("The gateway failed to answer this request; the log has the details.")
