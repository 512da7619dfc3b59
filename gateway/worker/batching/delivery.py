"""Answers on their way from the scheduler's events to bytes, in the event loop of the front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from gateway.wire import dump, encode_event
from gateway.worker.batching.answers import Teller
from gateway.worker.batching.refusals import Refusal
from gateway.worker.batching.scheduler import Scheduler
from gateway.worker.batching.work import Ending, Event, Sequence

JSON = "application/json; charset=utf-8"
FAILED = {"code": 500, "message": "The model could not compute this request.", "type": "server_error"}


class Whole:
    """An answer that is known in full."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.status = status
        self.content_type = JSON
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body

    async def close(self) -> None:
        """Have nothing to end."""


def refused(refusal: Refusal) -> Whole:
    """Return the answer to a request that is refused."""
    return Whole(dump({"error": refusal.error}), refusal.status)


class Inbox:
    """The events of one request's sequences, in order; ends their work when it is closed."""

    def __init__(self, scheduler: Scheduler, sequences: list[Sequence]) -> None:
        self._scheduler = scheduler
        self._sequences = sequences
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        for index, sequence in enumerate(sequences):
            sequence.sink = partial(self._take, index)

    def start(self) -> None:
        self._scheduler.submit(self._sequences)

    def _take(self, index: int, event: Event) -> None:
        self._events.put_nowait((index, event))

    async def read(self) -> list[tuple[int, Event]]:
        """Return what has come since, at least one event."""
        found = [await self._events.get()]
        while not self._events.empty():
            found.append(self._events.get_nowait())
        return found

    def close(self) -> None:
        self._scheduler.cancel(self._sequences)


class Stream:
    """An answer that is told while it is written."""

    status = 200
    content_type = "text/event-stream"

    def __init__(self, inbox: Inbox, teller: Teller, first: bytes) -> None:
        self._inbox = inbox
        self._teller = teller
        self._first = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        while not (self._teller.is_over or self._teller.failed):
            told = tell(self._teller, await self._inbox.read())
            if told:
                yield told
        if self._teller.failed:
            self._inbox.close()
            yield encode_event({"error": FAILED})

    async def close(self) -> None:
        self._inbox.close()


def tell(teller: Teller, events: list[tuple[int, Event]]) -> bytes:
    """Return what `events` are in a stream."""
    told: list[bytes] = []
    for index, event in events:
        if isinstance(event, Ending):
            text = teller.end(index, event)
            if event.reason != "failed":
                told.append(text)
        else:
            told.append(teller.piece(index, event))
    return b"".join(told)


async def deliver(scheduler: Scheduler, sequences: list[Sequence], teller: Teller, *, stream: bool) -> Whole | Stream:
    """Have `sequences` written; return when the first event of a stream, or the whole answer, is there."""
    inbox = Inbox(scheduler, sequences)
    inbox.start()
    try:
        told = b""
        while not told or not stream:
            told += tell(teller, await inbox.read())
            if teller.failed:
                inbox.close()
                return Whole(dump({"error": FAILED}), 500)
            if teller.is_over:
                break
    except BaseException:  # above all CancelledError: nobody waits for the answer any more
        inbox.close()
        raise
    return Stream(inbox, teller, told) if stream else Whole(teller.whole())


def dispatcher(
    loop_of: Callable[[], asyncio.AbstractEventLoop | None],
) -> Callable[[list[tuple[Sequence, Event]]], Any]:
    """Return what hands a step's events to the front's loop with one call."""

    def hand_out(told: list[tuple[Sequence, Event]]) -> None:
        for sequence, event in told:
            sequence.sink(event)

    def post(told: list[tuple[Sequence, Event]]) -> None:
        loop = loop_of()
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(hand_out, told)

    return post
