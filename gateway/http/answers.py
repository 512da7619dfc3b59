"""How replies and errors become HTTP answers: headers, bodies, event streams."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

from gateway.call import Call, Record
from gateway.errors import GatewayError, MethodNotAllowed, UpstreamOverloaded
from gateway.http.drain import Drain
from gateway.providers import Reply
from gateway.wire import dump, encode_event

JSON = "application/json"


def json_response(value: object, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, headers={"Content-Type": JSON})


def error_response(error: GatewayError, record: Record) -> web.Response:
    """Return the envelope of `error` with the headers its class asks for."""
    headers = {"Content-Type": JSON, **_trail(record)}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        headers["Retry-After-Ms"] = str(max(1, math.ceil(error.retry_after * 1000)))
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    return web.Response(body=dump(error.envelope()), status=error.http_status, headers=headers)


async def answer(request: web.Request, call: Call, reply: Reply, drain: Drain) -> web.StreamResponse:
    """Return the plain answer, or send the stream and return it sent."""
    if call.stream:
        return await _relay(request, call.record, reply, drain)
    call.record.usage = reply.usage
    return web.Response(body=reply.body, headers={"Content-Type": JSON, **_trail(call.record)})


async def _relay(request: web.Request, record: Record, reply: Reply, drain: Drain) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
            "x-request-id": record.request_id,
            **_trail(record),
        }
    )
    clock = asyncio.get_running_loop().time
    record.first_event = clock()
    await response.prepare(request)
    try:
        async for block in reply:
            await response.write(block)
    except GatewayError as error:  # content went out: an event is the only way left to say it
        record.error = error.code or error.type
        record.attempts[-1].outcome = record.error
        await response.write(encode_event(error.envelope()))
    except asyncio.CancelledError:
        if not drain.is_cutting:
            raise
        record.error = "server_shutting_down"
        stopping = UpstreamOverloaded("The gateway is shutting down.", code=record.error)
        await response.write(encode_event(stopping.envelope()))
    finally:
        record.usage = reply.usage
    await response.write_eof()
    return response


def _trail(record: Record) -> dict[str, str]:
    """Return the headers that say who answered and after how many attempts."""
    if not record.attempts:
        return {}
    return {"x-gateway-deployment": record.deployment, "x-gateway-attempts": str(len(record.attempts))}
