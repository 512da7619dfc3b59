"""A closed-loop load generator: a fixed number of connections, each sends its next request when it has its answer.

Bounded in requests and in time, loopback only. Every answer is checked; one that is wrong is counted as a fault, and
so is a connection that breaks. Nothing here measures the system under load: that is `accounting.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import cast

from bench.canned import Request

CONNECTIONS = 32
LOOPBACK = "127.0.0.1"
MOST_FAULTS = 20  # after so many the rest would only say the same

_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(slots=True)
class Tally:
    """What came of one load: how many were answered rightly, what went wrong, how long it took."""

    wanted: int
    sent: int = 0
    answered: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def is_over(self) -> bool:
        return self.answered + len(self.faults) >= self.wanted or len(self.faults) >= MOST_FAULTS


def dechunk(body: bytes) -> bytes | None:
    """Return the content of a chunked body that ends here, None when it does not end here or is malformed."""
    pieces: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        if end < 0:
            return None
        try:
            size = int(body[at:end].split(b";", 1)[0], 16)
        except ValueError:
            return None
        start = end + 2
        if body[start + size : start + size + 2] != b"\r\n":
            return None
        at = start + size + 2
        if size == 0:
            return b"".join(pieces) if at == len(body) else None
        pieces.append(body[start : start + size])


def content(answer: bytes) -> bytes | None:
    """Return the body of a whole HTTP answer, None when more must arrive."""
    end = answer.find(_HEAD_END)
    if end < 0:
        return None
    head = answer[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return dechunk(answer[end + 4 :]) if answer.endswith(_LAST_CHUNK) else None
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    body = answer[end + 4 :]
    return body if len(body) >= length else None


def find_fault(request: Request, answer: bytes, body: bytes) -> str:
    """Return what is wrong with a whole answer, "" if nothing is."""
    if not answer.startswith(b"HTTP/1.1 200 "):
        return f"{request.name}: {answer[:300]!r}"
    if request.is_stream:
        events = body.count(b"data: ")
        if events != request.events or not body.rstrip().endswith(b"data: [DONE]"):
            return f"{request.name}: {events} events, ending in {body[-100:]!r}"
    missing = [mark for mark in request.marks if mark not in body]
    return f"{request.name}: {missing} not in {body[:300]!r}" if missing else ""


class _Connection(asyncio.Protocol):
    def __init__(self, request: Request, encoded: bytes, tally: Tally, over: asyncio.Event) -> None:
        self._request = request
        self._encoded = encoded
        self._tally = tally
        self._over = over
        self._buffer = b""
        self._is_waiting = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._next(self._transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer = self._buffer + data if self._buffer else data
        body = content(self._buffer)
        if body is None:
            return
        answer, self._buffer, self._is_waiting = self._buffer, b"", False
        fault = find_fault(self._request, answer, body)
        if fault:
            self._tally.faults.append(fault)
        else:
            self._tally.answered += 1
        self._next(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_waiting and not self._over.is_set():
            self._tally.faults.append(f"{self._request.name}: connection lost after {self._buffer[-100:]!r}")
            self._next(None)

    def _next(self, transport: asyncio.Transport | None) -> None:
        if self._tally.is_over:
            self._over.set()
        if transport is None or transport.is_closing():
            return
        if self._tally.sent >= self._tally.wanted or self._over.is_set():
            transport.close()
            return
        self._tally.sent += 1
        self._is_waiting = True
        transport.write(self._encoded)


async def drive(
    port: int, request: Request, count: int, *, connections: int = CONNECTIONS, deadline_seconds: float = 60.0
) -> Tally:
    """Send `count` requests to 127.0.0.1:`port` and return what came of them; ends at the deadline at the latest."""
    loop = asyncio.get_running_loop()
    tally = Tally(count)
    over = asyncio.Event()
    encoded = request.encode(port)
    transports = []
    began = time.perf_counter()
    for _ in range(min(connections, count)):
        transport, _protocol = await loop.create_connection(
            lambda: _Connection(request, encoded, tally, over), LOOPBACK, port
        )
        transports.append(transport)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), deadline_seconds)
    tally.seconds = time.perf_counter() - began
    if not over.is_set():
        over.set()
        tally.faults.append(f"{request.name}: {tally.answered} of {count} answered within {deadline_seconds:.0f} s")
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0)
    return tally
