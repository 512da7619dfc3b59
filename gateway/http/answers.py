"""How replies and errors become HTTP answers: headers, bodies, event streams."""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from gateway import logs
from gateway.call import CacheUse, Call, Record
from gateway.errors import (
    REQUEST_EXCEEDS_RATE_LIMIT,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    ShuttingDown,
    UpstreamRejected,
)
from gateway.http.drain import Drain
from gateway.providers import Reply
from gateway.wire import dump, encode_event

JSON = "application/json"
_NEVER_PASSES = frozenset({"insufficient_quota", "not_remembered", REQUEST_EXCEEDS_RATE_LIMIT})  # no retry mends these
_RETRIED_BY_CLIENTS = frozenset({408, 409, 429, *range(500, 600)})
LONGEST_HEADER = 200  # characters


def json_response(value: object, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, headers={"Content-Type": JSON})


def error_response(error: GatewayError, record: Record) -> web.Response:
    """Return the envelope of `error` with the headers its class asks for."""
    headers = {"Content-Type": JSON, **_trail(record)}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        headers["Retry-After-Ms"] = str(max(1, math.ceil(error.retry_after * 1000)))
    tried = sum(
        attempt.outcome != UpstreamRejected.outcome for attempt in record.asked.attempts
    )  # not those that were healed
    has_spent = tried > 1 or error.code in _NEVER_PASSES
    if has_spent and error.http_status in _RETRIED_BY_CLIENTS:
        headers["x-should-retry"] = "false"  # the gateway has spent the retries; clients would multiply them
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    return web.Response(body=dump(error.envelope()), status=error.http_status, headers=headers)


def defect(error: Exception, record: Record) -> InternalError:
    """Write down a failure of our own, and return what the caller is told of it."""
    trace = "".join(traceback.format_exception(error))
    logs.event("defect", level="error", request_id=record.request_id, trace=trace)
    return InternalError("The gateway failed to answer this request; the log has the details.")


class _InBlocks(web.StreamResponse):
    # The first block is at hand when the head is written: both go out in one packet, as plain answers do.
    _send_headers_immediately = False


class Answers:
    """Sends replies; `clock` gives seconds on the clock of the requests' records."""

    def __init__(self, drain: Drain, clock: Callable[[], float]) -> None:
        self._drain = drain
        self._clock = clock

    async def send(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        """Return the plain answer, or send the stream and return it sent."""
        if call.stream:
            return await self._relay(request, call.record, reply)
        call.record.usage, call.record.flaws = reply.usage, reply.flaws
        return web.Response(body=reply.body, headers={"Content-Type": JSON, **_trail(call.record)})

    def send_body(self, body: bytes, record: Record) -> web.Response:
        """Return a whole answer that the gateway made itself."""
        return web.Response(body=body, headers={"Content-Type": JSON, **_trail(record)})

    async def send_blocks(
        self, request: web.Request, record: Record, blocks: AsyncIterator[bytes], length: int
    ) -> web.StreamResponse:
        """Send an answer of `length` bytes that the gateway makes block by block, as fast as the caller reads.

        What cannot be ended is cut short: its length tells the caller, whom a second head would only confuse.
        """
        response = _InBlocks(headers={"Content-Type": JSON, "x-request-id": record.request_id, **_trail(record)})
        response.content_length = length
        if self._drain.is_draining:
            response.force_close()
        record.sent_from = self._clock()
        await response.prepare(request)
        try:
            async for block in blocks:
                await response.write(block)
        except asyncio.CancelledError:
            if not self._drain.is_cutting:
                raise
            _cut_short(response, record, ShuttingDown())
        except ConnectionError:
            raise  # the caller is gone
        except Exception as error:  # noqa: BLE001  see above
            _cut_short(response, record, defect(error, record))
        await response.write_eof()
        return response

    async def _relay(self, request: web.Request, record: Record, reply: Reply) -> web.StreamResponse:
        response = _InBlocks(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "x-request-id": record.request_id,
                **_trail(record),
            }
        )
        record.first_event = self._clock()
        await response.prepare(request)
        last = b""
        try:
            async for block in reply:
                if reply.is_complete:
                    last = block  # goes out together with the end of the body
                    break
                await response.write(block)
        except GatewayError as error:  # content went out: an event is the only way left to say it
            await self._break_off(response, record, error)
        except asyncio.CancelledError:
            if not self._drain.is_cutting:
                raise
            await self._break_off(response, record, ShuttingDown())
        except ConnectionError:
            raise  # the caller is gone
        except Exception as error:  # noqa: BLE001  a second head in the middle of a body would be read as content
            await self._break_off(response, record, defect(error, record))
        finally:
            record.usage, record.flaws = reply.usage, reply.flaws
            record.stream_seconds = self._clock() - record.first_event
        await response.write_eof(last)
        return response

    async def _break_off(self, response: web.StreamResponse, record: Record, error: GatewayError) -> None:
        attempt = record.attempts[-1]
        record.error = attempt.outcome = error.outcome
        attempt.detail, attempt.error = error.message, error
        await response.write(encode_event(error.envelope()))


def _cut_short(response: web.StreamResponse, record: Record, error: GatewayError) -> None:
    record.error = error.outcome
    response.force_close()


def _trail(record: Record) -> dict[str, str]:
    """Return the headers that say who answered and after how many attempts."""
    trail: dict[str, str] = {}
    if record.cache is not None:
        trail["x-gateway-cache"] = _cache_words(record.cache)
    if record.truncated_tokens:
        trail["x-gateway-truncated"] = str(record.truncated_tokens)
    if record.max_tokens is not None:
        trail["x-gateway-max-tokens"] = str(record.max_tokens)
    asked = record.asked
    if not asked.attempts:
        return trail
    name = asked.attempts[asked.told].deployment
    if len(name) > LONGEST_HEADER or not (name.isascii() and name.isprintable()):
        name = asked.attempts[asked.told].label  # a caller that spells out a model chooses its letters
    trail["x-gateway-deployment"] = name
    trail["x-gateway-attempts"] = str(len(asked.attempts))
    if record.queued is not None:
        trail["x-gateway-queue-position"] = str(record.queued.position)
    if asked.dropped:
        trail["x-gateway-dropped-params"] = ", ".join(asked.dropped)
    return trail


def _cache_words(use: CacheUse) -> str:
    words = [f"hits={use.hits}", f"misses={use.misses}"]
    if use.joined:
        words.append(f"joined={use.joined}")
    words += [f"{tier}={found}" for tier, found in use.tiers.items() if found]
    return " ".join(words)
