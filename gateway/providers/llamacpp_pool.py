"""Requests to the front of a model process: it is told who asks, and it tells how the request waited for its turn.

What the answer says is not known here; why a process does not answer is found in `llamacpp.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from yarl import URL

from gateway.call import Queued
from gateway.errors import LocalModelUnavailable, UpstreamError, UpstreamOverloaded, UpstreamTimeout
from gateway.providers.base import Exchange, Patience
from gateway.providers.pool import Pool
from gateway.providers.whole import read_beginning, read_object

LONGEST_CALLER = 200  # characters
_REFUSALS = {
    "queue_full": ("local_queue_full", "Too many requests wait for the local model '{}' already."),
    "queue_timeout": ("local_queue_timeout", "The request waited too long for its turn at the local model '{}'."),
}

_asking: ContextVar[tuple[Exchange, bool] | None] = ContextVar("_asking", default=None)


def begin_exchange(exchange: Exchange, *, alone: bool = False) -> None:
    """Note what the task at hand asks next, and whether the model may work on nothing else meanwhile."""
    _asking.set((exchange, alone))


class QueuePatience:
    """The patience of `inner`, which begins when the request's turn has come, at the latest after `wait` seconds."""

    def __init__(self, inner: Patience, wait: float) -> None:
        self.inner = inner
        self._wait = wait

    @property
    def connect_seconds(self) -> float:
        return self.inner.connect_seconds

    def begin_seconds(self, *, stream: bool) -> float:
        return self.inner.begin_seconds(stream=stream) + self._wait

    @property
    def between_events_seconds(self) -> float:
        return self.inner.between_events_seconds

    @property
    def total_seconds(self) -> float:
        return self.inner.total_seconds + self._wait


class FrontPool(Pool):
    """Posts what was noted by `begin_exchange`."""

    async def post(
        self, url: URL, body: bytes, connect_seconds: float, headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        asking = _asking.get()
        if asking is None:
            return await super().post(url, body, connect_seconds, headers)
        exchange, alone = asking
        request = exchange.ticket = uuid4().hex
        sent = {**(headers or {}), **_headers(exchange, alone=alone), "x-gateway-request": request}
        if isinstance(exchange.patience, QueuePatience):
            seconds = exchange.patience.inner.begin_seconds(stream=exchange.stream)
            async with self._in_time(url.with_path(f"/queue/{request}"), seconds):
                response = await super().post(url, body, connect_seconds, sent)
        else:
            response = await super().post(url, body, connect_seconds, sent)
        exchange.queued = _queued(response.headers)
        if response.status == 503:
            raise await _refusal(response, exchange.model)
        return response

    @asynccontextmanager
    async def _in_time(self, place: URL, seconds: float) -> AsyncIterator[None]:
        """Raise UpstreamTimeout when the block takes longer than `seconds`, not counting what `place` says was waiting.

        A process that hangs does not answer there, so it is found out as fast as if there were no queue.
        """
        loop = asyncio.get_running_loop()
        looking: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(seconds) as limit:
                look = partial(self._look, place, seconds, limit)
                timer = loop.call_later(seconds / 2, lambda: looking.append(loop.create_task(look())))
                try:
                    yield
                finally:
                    timer.cancel()
                    for task in looking:
                        task.cancel()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise UpstreamTimeout(f"The upstream did not answer within {seconds:g} seconds.") from error

    async def _look(self, place: URL, seconds: float, limit: asyncio.Timeout) -> None:
        """Move the limit for as long as the request waits, and to what is left of the turn that has come.

        A request that is asked in pieces has several turns, between which it waits.
        """
        now = asyncio.get_running_loop().time
        while True:
            told = await self._read_place(place)
            if "seconds" not in told or limit.expired():
                return
            limit.reschedule(now() + seconds - (told["seconds"] or 0.0))
            await asyncio.sleep(seconds / 2)

    async def _read_place(self, place: URL) -> Mapping[str, float | None]:
        assert self._session is not None  # noqa: S101  the request went out over it
        try:
            async with self._session.get(place) as reply:
                return read_object(await read_beginning(reply)) or {}
        except aiohttp.ClientError:
            return {}  # the request itself will tell what is wrong


def _headers(exchange: Exchange, *, alone: bool) -> dict[str, str]:
    headers = {"x-gateway-caller": quote(exchange.caller, safe=" ")[:LONGEST_CALLER]}
    if exchange.most_waiting is not None:
        headers["x-gateway-max-queue"] = str(exchange.most_waiting)
    if alone:
        headers["x-gateway-alone"] = "1"
    return headers


def _queued(headers: Mapping[str, str]) -> Queued | None:
    position, milliseconds = (
        _number(headers, "x-gateway-queue-position"),
        _number(headers, "x-gateway-queue-milliseconds"),
    )
    return None if position is None or milliseconds is None else Queued(int(position), milliseconds)


async def _refusal(response: aiohttp.ClientResponse, model: str) -> UpstreamError:
    try:
        payload = read_object(await read_beginning(response)) or {}
    finally:
        response.close()
    error = payload.get("error")
    refused = _REFUSALS.get(error.get("type", "")) if isinstance(error, dict) else None
    if refused is None:
        return UpstreamOverloaded("The model process is not ready.", upstream_status=503)
    code, message = refused
    return LocalModelUnavailable(
        message.format(model), code=code, retry_after=_number(response.headers, "Retry-After"), upstream_status=503
    )


def _number(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name, "")
    return float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else None
