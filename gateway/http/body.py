"""From a request's bytes to a checked call: media type, size, deadline, JSON, shape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from aiohttp import web

from gateway.call import Call, Caller, Endpoint
from gateway.errors import InvalidRequest, RequestTimeout, UnsupportedMediaType
from gateway.http.lifecycle import RECORD
from gateway.routing import AUTO, TRUNCATION_HEADER, check_style, check_truncation
from gateway.wire import STEERING, parse_object, refuse_steering

DEADLINE_SECONDS = 30.0
LARGE_BYTES = 64 * 1024  # from which on a body is read in a turn of its own: 400 KB take a millisecond
# The types of parts that may have more tokens than bytes; spelled with escapes they are not found, and the model decides.
_MEDIA = (b'"image_url"', b'"input_audio"', b'"file"', b'"image"', b'"document"')
SLOWEST_BYTES_PER_SECOND = 64 * 1024


async def read_call(
    request: web.Request,
    caller: Caller,
    endpoint: Endpoint,
    check: Callable[[dict[str, Any]], None],
    deadline_seconds: float = DEADLINE_SECONDS,
    own: frozenset[str] = frozenset(),
) -> Call:
    """Return the checked call; raises the RequestError that says what is wrong with the request.

    `deadline_seconds` is how long the body may take to arrive, beside what its length allows for. `own` are fields that
    are the gateway's at this endpoint, though elsewhere they would steer a call; whoever asks takes them out.
    """
    raw = await _read(request, deadline_seconds)
    if len(raw) < LARGE_BYTES:
        body = _parse(raw, check, own)
    else:
        async with _turn(asyncio.get_running_loop()):
            body = _parse(raw, check, own)
            await asyncio.sleep(0)
    record = request[RECORD]
    alias: str = body["model"]
    stream = endpoint != "embeddings" and body.get("stream") is True
    record.caller, record.model, record.stream = caller.name, alias, stream
    call = Call(endpoint, body, alias, stream, caller, record, size=len(raw))
    if endpoint == "chat/completions":
        call.has_media = any(word in raw for word in _MEDIA)
    truncation = request.headers.get(TRUNCATION_HEADER)
    if truncation is not None:
        call.truncation = check_truncation(truncation, endpoint)
    style = request.headers.get("x-gateway-style")
    if style is not None:
        call.style = check_style(style)
    if alias.partition(":")[0] == AUTO:
        call.speed = request.headers.get("x-gateway-speed", "").strip().lower()
        call.complexity = request.headers.get("x-gateway-complexity", "").strip().lower()
    return call


def _parse(raw: bytes, check: Callable[[dict[str, Any]], None], own: frozenset[str]) -> dict[str, Any]:
    body = parse_object(raw)
    if not STEERING.isdisjoint(body):
        refuse_steering(body.keys() - own)
    check(body)
    return body


@lru_cache(maxsize=1)
def _turn(_loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
    """Return what large bodies wait for: several that arrive together would hold up everybody else one after another."""
    return asyncio.Lock()


async def _read(request: web.Request, deadline_seconds: float) -> bytes:
    # Browsers send text/plain and forms across origins without asking; JSON they may not.
    if request.headers.get("Content-Type") != "application/json" and request.content_type != "application/json":
        raise UnsupportedMediaType(
            f"Unsupported content type '{request.content_type}'. Send 'Content-Type: application/json'."
        )
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("Compressed request bodies are not accepted.", code="unsupported_encoding")
    if request.content.is_eof() and request.content.total_bytes <= request.client_max_size:
        return await request.read()
    length = request.content_length or 0
    if length > request.client_max_size:
        raise web.HTTPRequestEntityTooLarge(max_size=request.client_max_size, actual_size=length)
    try:
        async with asyncio.timeout(deadline_seconds + length / SLOWEST_BYTES_PER_SECOND):
            return await request.read()
    except TimeoutError:
        raise RequestTimeout("The request body did not arrive in time.") from None
    except web.RequestPayloadError:
        raise InvalidRequest("The request body could not be read.", code="invalid_body") from None
