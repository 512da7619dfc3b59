"""A streamed reply: pulls one chunk at a time from the upstream and gives whole events on.

Nothing is queued: the next chunk is read when the last was taken, so a slow caller slows the upstream down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Self

import aiohttp

from gateway.call import Flaw, Usage
from gateway.errors import (
    GatewayError,
    RequestTimeout,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from gateway.providers.base import Patience
from gateway.providers.classify import as_error_object, classify_object
from gateway.providers.pool import is_lost
from gateway.providers.sweeper import Sweeper, TimeLimit
from gateway.wire import EventTooLarge, SseScanner, tells_something

HOLD_SECONDS = 1.0  # how long a beginning that tells nothing is kept back; many upstreams fail right behind one
HOLD_BYTES = 64 * 1024  # and how much of it: some thousand times what upstreams begin with
LARGEST_BLOCK = 32 * 1024  # bytes: what is held for a caller that does not read stays small
LINGER_SECONDS = 0.05  # how long the end of the body may lag behind [DONE] for the connection to be kept


class StreamReply:
    """An open stream of an upstream that speaks the OpenAI wire.

    `secrets` are what we send to that upstream, taken out of what its error events say; `began` is when it was asked,
    by the monotonic clock.
    """

    __slots__ = (
        "_began",
        "_content",
        "_first",
        "_overdue",
        "_patience",
        "_response",
        "_scanner",
        "_secrets",
        "_sweeper",
        "_waiting_since",
        "body",
    )
    vectors = None

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        scanner: SseScanner,
        patience: Patience,
        sweeper: Sweeper,
        secrets: Sequence[str],
        began: float,
    ) -> None:
        self.body = b""
        self._response = response
        self._content = response.content
        self._scanner = scanner
        self._secrets = secrets
        self._patience = patience
        self._first = b""
        self._began = began
        self._waiting_since: float | None = None  # None while the caller, not the upstream, is waited for
        self._sweeper = sweeper
        self._overdue: GatewayError | None = None

    @property
    def is_complete(self) -> bool:
        return self._scanner.done

    @property
    def usage(self) -> Usage | None:
        return self._scanner.usage

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        return self._scanner.flaws

    async def wait_for_first_event(self) -> None:
        """Read until a data event has arrived and parsed; raises what an error event or a broken stream means.

        Comments before it are dropped: they are no progress, and nothing was sent to the caller yet.
        """
        while not (self._scanner.started or self._scanner.is_over):
            self._first = await self._read()
        self._raise_failure_before_content()

    async def wait_for_content(self) -> None:
        """Read on until something is told, for HOLD_SECONDS and HOLD_BYTES at most; raises what a failure before means.

        A role is no content, nor is a report on the prompt: a caller that has not seen more can be answered by another.
        """
        if self._scanner.done:
            return
        held = [self._first]
        size = len(self._first)
        left = self._began + self._patience.total_seconds - time.monotonic()
        is_told = tells_something(self._first)
        try:
            with TimeLimit(self._sweeper, min(HOLD_SECONDS, left)):
                while not (is_told or self._scanner.is_over or size > HOLD_BYTES):
                    held.append(await self._read())
                    size += len(held[-1])
                    is_told = tells_something(held[-1])
        except TimeoutError:
            self._waiting_since = None  # the caller is given what there is
        self._first = b"".join(held)
        if not is_told:
            self._raise_failure()

    def _raise_failure_before_content(self) -> None:
        if not self._first:
            self._raise_failure()
        if self._scanner.done and b'"choices"' not in self._first:
            raise UpstreamProtocolError("The upstream's stream ended before it began.", code="upstream_empty_stream")

    async def __aenter__(self) -> Self:
        self._sweeper.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sweeper.discard(self)
        try:
            if self._scanner.done and not self._content.is_eof():
                await self._linger()
        finally:  # also when the caller, who has its answer, leaves while the end is awaited
            if self._content.is_eof():
                self._response.release()
            else:
                self._response.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        block, self._first = self._first, b""
        while not (block or self._scanner.is_over):
            block = await self._read()
        if not block:
            self._raise_failure()
            raise StopAsyncIteration
        return block

    async def _read(self) -> bytes:
        """Return the next whole events, b"" if there are none yet; at the end, sets `done` or raises."""
        self._waiting_since = time.monotonic()
        try:
            chunk = await self._content.read(LARGEST_BLOCK)
            self._waiting_since = None
            return self._scanner.feed(chunk) if chunk else self._end()
        except EventTooLarge:
            raise UpstreamTooLarge("The upstream sent an event that is too large.", code="event_too_large") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._overdue or _interrupted(error) from None
        except (TypeError, ValueError, RecursionError):  # what JSON allows and nobody writes
            raise _bad_event() from None

    def _end(self) -> bytes:
        block = self._scanner.end()
        if self._scanner.is_over:
            return block
        if not self._scanner.finished:
            raise _interrupted(None)
        self._scanner.flaws += ("missing_done",)
        return block + self._scanner.closing()  # the choice was finished, only the closing word was left out

    def _raise_failure(self) -> None:
        reported = self._scanner.error
        if reported is not None:
            raise classify_object(as_error_object(reported), secrets=self._secrets)
        if self._scanner.broken:
            raise _bad_event()

    def sweep(self, now: float) -> None:
        """Close the upstream when the stream takes too long, or when it, not the caller, lets it wait too long."""
        if self._overdue is None:
            self._overdue = self._find_overdue(now)
        if self._overdue is not None or is_lost(self._response):
            self._response.close()

    def _find_overdue(self, now: float) -> GatewayError | None:
        """Return what the caller is told of a stream that lasts too long; whoever lets it wait is to blame."""
        patience = self._patience
        if now >= self._began + patience.total_seconds:
            text = f"The stream took longer than {patience.total_seconds:g} seconds"
            if self._waiting_since is None:
                return RequestTimeout(f"{text} because it was not read.", code="caller_too_slow")
            return UpstreamTimeout(f"{text}.", code="upstream_stream_stalled")
        if self._waiting_since is not None and now - self._waiting_since >= patience.between_events_seconds:
            return UpstreamTimeout(
                f"The upstream sent nothing for {patience.between_events_seconds:g} seconds.",
                code="upstream_stream_stalled",
            )
        return None

    async def _linger(self) -> None:
        """Give the end of the body a moment to arrive, so that the connection can be used again."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            return  # closed below instead of kept: nothing is lost, the answer was whole


def _bad_event() -> UpstreamProtocolError:
    return UpstreamProtocolError("The upstream sent an event that is not a JSON object.", code="bad_event")


def _interrupted(error: Exception | None) -> UpstreamUnavailable:
    reason = f": {type(error).__name__}" if error is not None else " before it was finished"
    return UpstreamUnavailable(f"The upstream's stream ended{reason}.", code="upstream_stream_interrupted")
