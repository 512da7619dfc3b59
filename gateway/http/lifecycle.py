"""What surrounds every request: its record, its log line and metrics, the check of its Host, and its errors.

Who is calling is not decided here but at each route (`access.py`), so that no path can slip past it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
import traceback
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway import logs
from gateway.call import Record
from gateway.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    RequestTooLarge,
    ShuttingDown,
    UnknownRoute,
)
from gateway.http.answers import error_response
from gateway.http.drain import Drain
from gateway.http.hosts import Hosts
from gateway.http.journal import Finished, Journal
from gateway.metrics import CLIENT_GONE

RECORD = web.RequestKey("record", Record)

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]
SURROUND: web.AppKey[Callable[[Step], Step]] = web.AppKey("surround", Callable)  # what a runner puts around all


def surround(application: Step, journal: Journal, hosts: Hosts, drain: Drain, clock: Callable[[], float]) -> Step:
    """Give each request an id and a record, turn its failure into OpenAI's envelope, and write it down at its end.

    This goes around the application, not into its middlewares: one middleware brings in a second of aiohttp's own, and
    each costs a chat call more than what is done here (bench/design.md).
    """
    prefix = f"req_{os.urandom(8).hex()}"
    count = itertools.count(1)

    async def surrounded(request: web.Request) -> web.StreamResponse:
        record = request[RECORD] = Record(f"{prefix}{next(count):08x}", clock())
        journal.begin()
        status = CLIENT_GONE
        endpoint = "other"
        try:
            try:
                hosts.check(request)
                try:
                    response = await application(request)
                finally:
                    endpoint = _endpoint(request)
            except asyncio.CancelledError:
                if not drain.is_cutting:
                    raise
                response = _failed(record, ShuttingDown())
            except Exception as error:  # noqa: BLE001  the one place where failures, ours too, become answers
                response = _answer_to(error, request, record)
            status = response.status
            if not response.prepared:
                response.headers["x-request-id"] = record.request_id
                if drain.is_draining:
                    response.force_close()
            return response
        finally:
            if record.client_gone:
                status = CLIENT_GONE
            journal.add(Finished(record, request.method, endpoint, status, clock(), time.time()))

    return surrounded


def _answer_to(error: Exception, request: web.Request, record: Record) -> web.Response:
    if isinstance(error, GatewayError):
        return _failed(record, error)
    if isinstance(error, web.HTTPException):
        return _failed(record, _from_aiohttp(request, error))
    if isinstance(error, ConnectionResetError):
        record.client_gone = True
        return web.Response(status=CLIENT_GONE)  # nobody is there to read it
    trace = "".join(traceback.format_exception(error))
    logs.event("defect", level="error", request_id=record.request_id, trace=trace)
    return _failed(record, InternalError("The gateway failed to answer this request; the log has the details."))


def _failed(record: Record, error: GatewayError) -> web.Response:
    record.error = error.code or error.type
    return error_response(error, record)


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> GatewayError:
    if isinstance(error, web.HTTPNotFound):
        return UnknownRoute(f"Unknown request URL: {request.method} {request.path[:200]}.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        return MethodNotAllowed(
            f"Not allowed to {error.method} on {request.path[:200]} (allowed: {', '.join(allowed)}).", allowed
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        megabytes = request.client_max_size // (1024 * 1024)
        return RequestTooLarge(f"The request body is larger than {megabytes} MiB.")
    return InvalidRequest(error.reason)


def _endpoint(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "other" if resource is None else resource.canonical
