"""What surrounds every request: its record, its log line and metrics, the check of its Host, and its errors.

Who is calling is not decided here but at each route (`access.py`), so that no path can slip past it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from gateway.call import Record
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    RequestTooLarge,
    ShuttingDown,
    UnknownRoute,
)
from gateway.http.answers import defect, error_response
from gateway.http.drain import Drain
from gateway.http.hosts import Hosts
from gateway.http.journal import Finished, Journal
from gateway.metrics import CLIENT_GONE

RECORD = web.RequestKey("record", Record)

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]
SURROUND: web.AppKey[Callable[[Step], Step]] = web.AppKey("surround")  # what a runner puts around all


class Lifecycle:
    """Gives each request an id and a record, turns its failure into OpenAI's envelope, and writes it down at its end.

    `exact` are the handlers of methods and paths without a variable part: they are found here, and only other requests
    are routed by the application. Both that and standing around the application instead of in its middlewares, of which
    one brings in a second of aiohttp's own, is for the sake of their cost (bench/design.md).
    """

    def __init__(
        self,
        journal: Journal,
        hosts: Hosts,
        drain: Drain,
        clock: Callable[[], float],
        exact: Mapping[tuple[str, str], Step],
    ) -> None:
        self._journal = journal
        self._hosts = hosts
        self._drain = drain
        self._clock = clock
        self._exact = exact
        self._prefix = f"req_{os.urandom(8).hex()}"
        self._count = itertools.count(1)

    def around(self, application: Step) -> Step:
        """Return what answers every request, those that `exact` does not list by `application`."""

        async def route(request: web.Request) -> web.StreamResponse:
            try:
                return await application(request)
            finally:
                request[RECORD].endpoint = _endpoint(request)

        async def surrounded(request: web.Request) -> web.StreamResponse:
            path = request.rel_url.raw_path
            handler = self._exact.get((request.method, path), route)
            record = request[RECORD] = Record(f"{self._prefix}{next(self._count):08x}", self._clock())
            connection: Any = request.protocol
            connection.request_id = record.request_id  # for what happens to it when the request is over
            if handler is not route:
                record.endpoint = path
                if "Expect" in request.headers:
                    handler = route  # the application meets expectations
            self._journal.begin()
            status = CLIENT_GONE
            try:
                response = await self._answer(request, handler, record)
                status = CLIENT_GONE if record.client_gone else response.status
            finally:
                self._journal.add(Finished(record, request.method, status, self._clock(), time.time()))
            return response

        return surrounded

    async def _answer(self, request: web.Request, handler: Step, record: Record) -> web.StreamResponse:
        try:
            self._hosts.check(request)
            response = await handler(request)
        except asyncio.CancelledError:
            if not self._drain.is_cutting:
                raise
            response = _failed(record, ShuttingDown())
        except Exception as error:  # noqa: BLE001  the one place where failures, ours too, become answers
            response = _answer_to(error, request, record)
        if not response.prepared:
            response.headers["x-request-id"] = record.request_id
            if self._drain.is_draining:
                response.force_close()
        return response


def _answer_to(error: Exception, request: web.Request, record: Record) -> web.Response:
    if isinstance(error, GatewayError):
        return _failed(record, error)
    if isinstance(error, web.HTTPException):
        return _failed(record, _from_aiohttp(request, error))
    if isinstance(error, ConnectionResetError):
        record.client_gone = True
        return web.Response(status=CLIENT_GONE)  # nobody is there to read it
    return _failed(record, defect(error, record))


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
