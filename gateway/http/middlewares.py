"""What surrounds every request: its record, its log line and metrics, its errors, and the check of its Host.

Who is calling is not decided here but at each route (`access.py`), so that no path can slip past it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway import logs
from gateway.call import Record
from gateway.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    RequestTooLarge,
    ShuttingDown,
    UnknownHost,
    UnknownRoute,
)
from gateway.http.answers import error_response
from gateway.http.drain import Drain
from gateway.http.journal import Finished, Journal

RECORD = web.RequestKey("record", Record)
CLIENT_GONE = 499  # nginx's word for a caller that left before its answer; only logs and metrics see it

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]


def observe(journal: Journal, clock: Callable[[], float]) -> Middleware:
    """Give each request an id and a record, and at its end one log line and its metrics."""
    prefix = f"req_{os.urandom(8).hex()}"
    count = itertools.count(1)

    @web.middleware
    async def middleware(request: web.Request, handler: Step) -> web.StreamResponse:
        record = request[RECORD] = Record(f"{prefix}{next(count):08x}", clock())
        journal.begin()
        status = CLIENT_GONE
        try:
            response = await handler(request)
            status = response.status
            if not response.prepared:
                response.headers["x-request-id"] = record.request_id
            return response
        finally:
            if record.client_gone:
                status = CLIENT_GONE
            journal.add(Finished(record, request.method, _endpoint(request), status, clock(), time.time()))

    return middleware


def render_errors(drain: Drain) -> Middleware:
    """Turn every failure into OpenAI's envelope, and close connections when the process goes away."""

    @web.middleware
    async def middleware(request: web.Request, handler: Step) -> web.StreamResponse:
        try:
            response = await _rendered(request, handler)
        except asyncio.CancelledError:
            if not drain.is_cutting:
                raise
            response = _failed(request, ShuttingDown())
        if drain.is_draining and not response.prepared:
            response.force_close()
        return response

    return middleware


async def _rendered(request: web.Request, handler: Step) -> web.StreamResponse:
    try:
        return await handler(request)
    except GatewayError as error:
        return _failed(request, error)
    except web.HTTPException as error:
        return _failed(request, _from_aiohttp(request, error))
    except ConnectionResetError:
        request[RECORD].client_gone = True
        return web.Response(status=CLIENT_GONE)  # nobody is there to read it
    except Exception:  # noqa: BLE001  the one place where a defect of ours becomes an answer
        logs.event("defect", level="error", request_id=request[RECORD].request_id, trace=traceback.format_exc())
        message = "The gateway failed to answer this request; the log has the details."
        return _failed(request, InternalError(message))


def _failed(request: web.Request, error: GatewayError) -> web.Response:
    record = request[RECORD]
    record.error = error.code or error.type
    return error_response(error, record)


def check_host(names: Iterable[str], *, any_name: bool) -> Middleware:
    """Refuse requests whose Host names another site: a page in the operator's browser cannot choose it.

    IP addresses and loopback names are always right. With `any_name` every well-formed name is, for servers that
    listen beyond loopback, where a key is required and names are the operator's to choose.
    """
    allowed = {"localhost", *(name.lower().rstrip(".") for name in names)}
    seen: set[str] = set()

    @web.middleware
    async def middleware(request: web.Request, handler: Step) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if host not in seen:
            if not _is_allowed(host, allowed, any_name=any_name) or len(request.headers.getall("Host", ())) != 1:
                raise UnknownHost(
                    "This gateway does not answer for that host name. Add it to server.allowed_hosts to accept it."
                )
            if len(seen) < 1000:
                seen.add(host)
        return await handler(request)

    return middleware


def _is_allowed(host: str, allowed: set[str], *, any_name: bool) -> bool:
    name, _, port = host.rpartition(":") if ":" in host.rpartition("]")[2] else (host, "", "")
    name = name.lower().rstrip(".")
    if port and not port.isdigit():
        return False
    if name in allowed or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return any_name and bool(name) and not set(name) - _HOST_CHARACTERS
    return True


_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")


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
