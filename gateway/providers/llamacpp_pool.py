"""Requests to the front of a model process: it is told who asks, and it tells how the request waited for its turn.

What the answer says is not known here; why a process does not answer is found in `llamacpp.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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
LOOK_SECONDS, SHORTEST_LOOK_SECONDS = 5.0, 0.05  # how often one that waits is looked after
LOADING_RETRY_SECONDS = 5.0  # how long a model that has not been loaded in time may still take, nobody knows
_REFUSALS = {
    "queue_full": ("local_queue_full", "Too many requests wait for the local model '{}' already."),
    "queue_timeout": ("local_queue_timeout", "The request waited too long for its turn at the local model '{}'."),
}

_asking: ContextVar[tuple[Exchange, bool] | None] = ContextVar("_asking", default=None)


def begin_exchange(exchange: Exchange, *, alone: bool = False) -> None:
    """Note what the task at hand asks next, and whether the model may work on nothing else meanwhile."""
    _asking.set((exchange, alone))


class QueuePatience:
    """The patience of `inner`, which begins when the request's turn has come, at the latest after `wait` seconds.

    `state()` tells how the model is: one that is not ready is being loaded or makes room for another. `at_work()` tells
    the names of the requests that its process answers.
    """

    def __init__(
        self,
        inner: Patience,
        wait: float,
        state: Callable[[], str] = lambda: "ready",
        at_work: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.inner = inner
        self.wait = wait
        self.state = state
        self.at_work = at_work

    @property
    def connect_seconds(self) -> float:
        return self.inner.connect_seconds

    def begin_seconds(self, *, stream: bool) -> float:
        return self.inner.begin_seconds(stream=stream) + self.wait

    @property
    def between_events_seconds(self) -> float:
        return self.inner.between_events_seconds

    @property
    def total_seconds(self) -> float:
        return self.inner.total_seconds + self.wait


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
            async with self._in_time(url.with_path(f"/queue/{request}"), exchange, exchange.patience):
                response = await super().post(url, body, connect_seconds, sent)
        else:
            response = await super().post(url, body, connect_seconds, sent)
        exchange.queued = _queued(response.headers)
        if response.status == 503:
            raise await _refusal(response, exchange.model)
        return response

    @asynccontextmanager
    async def _in_time(self, place: URL, exchange: Exchange, patience: QueuePatience) -> AsyncIterator[None]:
        """Raise UpstreamTimeout when the block takes longer than an answer may, not counting what was waiting.

        That is told by `place`, and while the process takes nobody, by its state. A process that hangs tells nothing and
        is ready all the same, so it is found out as fast as if there were no queue. Raises LocalModelUnavailable when it
        was the waiting that took too long.
        """
        inner = patience.inner
        seconds = min(inner.begin_seconds(stream=exchange.stream), inner.total_seconds)
        loop = asyncio.get_running_loop()
        looking: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(seconds) as limit:
                stay = _Stay(exchange, patience, seconds, limit)
                look = partial(self._look, place, stay)
                timer = loop.call_later(stay.pause, lambda: looking.append(loop.create_task(look())))
                try:
                    yield
                finally:
                    timer.cancel()
                    for task in looking:
                        task.cancel()
        except TimeoutError as error:
            if not limit.expired():
                raise
            late = UpstreamTimeout(f"The upstream did not answer within {seconds:g} seconds.")
            raise stay.complaint or late from error

    async def _look(self, place: URL, stay: _Stay) -> None:
        """Look again and again how the request fares; one that is asked in pieces waits between any two of them."""
        while not stay.is_over:
            if not stay.is_away():
                stay.note_place(await self._read_place(place, stay.pause))
            await asyncio.sleep(stay.pause)

    async def _read_place(self, place: URL, seconds: float) -> Mapping[str, float | None]:
        assert self._session is not None  # noqa: S101  the request went out over it
        try:
            async with asyncio.timeout(seconds), self._session.get(place) as reply:
                return read_object(await read_beginning(reply)) or {}
        except (aiohttp.ClientError, TimeoutError):
            return {}  # the request itself will tell what is wrong


class _Stay:
    """How one request fares at its model; `limit` ends it, and is moved for as long as it waits and nothing is wrong."""

    def __init__(self, exchange: Exchange, patience: QueuePatience, seconds: float, limit: asyncio.Timeout) -> None:
        self.pause = min(LOOK_SECONDS, seconds / 2, max(patience.wait / 2, SHORTEST_LOOK_SECONDS))
        self.complaint: LocalModelUnavailable | None = None
        self._exchange = exchange
        self._patience = patience
        self._seconds = seconds
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()

    @property
    def is_over(self) -> bool:
        return self._limit.expired()

    def is_away(self) -> bool:
        """Tell whether the model is being loaded, or leaves, so that nobody can be asked; the time is not counted then."""
        if self._patience.state() == "ready":
            return False
        if self._exchange.ticket in self._patience.at_work() or self._waited < self._patience.wait:
            self._go_on()
        else:
            self._give_up(
                f"The local model '{self._exchange.model}' is still being loaded.", retry_after=LOADING_RETRY_SECONDS
            )
        return True

    def note_place(self, told: Mapping[str, float | None]) -> None:
        """Take note of what the front tells: the seconds since the turn came, null while the request waits."""
        if "seconds" not in told or self.is_over:
            return
        if told["seconds"] is not None:
            self._go_on(told["seconds"])
        elif self._waited + self.pause < self._seconds + self._patience.wait:
            self._go_on()
        else:
            code, message = _REFUSALS["queue_timeout"]
            self._give_up(message.format(self._exchange.model), code=code, retry_after=told.get("retry_after"))

    @property
    def _waited(self) -> float:
        return self._clock() - self._began

    def _go_on(self, answering: float = 0.0) -> None:
        """Give it what is left of its time when `answering` seconds of that are over."""
        if not self.is_over:
            self._limit.reschedule(self._clock() + self._seconds - answering)

    def _give_up(self, message: str, *, code: str | None = None, retry_after: float | None) -> None:
        self.complaint = LocalModelUnavailable(message, code=code, retry_after=retry_after or LOADING_RETRY_SECONDS)
        self._limit.reschedule(self._clock())


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
