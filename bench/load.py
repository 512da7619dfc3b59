"""A closed-loop load generator: a fixed number of connections, each sends its next request when it has its answer.

Bounded in requests and in time, loopback only. Every answer is checked; one that is wrong is counted as a fault, and
so is a connection that breaks. Nothing here measures the system under load: that is `accounting.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import cast

from bench.canned import COUNTER, Request

CONNECTIONS = 32
LOOPBACK = "127.0.0.1"
DEADLINE_SECONDS = 60.0  # of one call of send
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
    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._buffer = b""
        self._is_waiting = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        body = content(self._buffer)
        if body is None:
            return
        answer, self._buffer, self._is_waiting = self._buffer, b"", False
        self._crew.note(find_fault(self._crew.request, answer, body))
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self._is_waiting:
            self._is_waiting = False
            self._crew.note(f"{self._crew.request.name}: connection lost after {self._buffer[-100:]!r}")

    def next(self) -> None:
        """Send the next request if there is one to send."""
        if self.transport is not None and self._crew.take():
            self._is_waiting = True
            self.transport.write(self._crew.encode())


class Crew:
    """Connections to one port that send one kind of request; open as long as the `async with`."""

    def __init__(self, port: int, request: Request, connections: int = CONNECTIONS) -> None:
        self.request = request
        self._encoded = request.encode(port)
        self._numbers = itertools.count(time.time_ns() // 1000 % 90_000_000) if COUNTER in request.body else None
        self._port = port
        self._size = connections
        self._connections: list[_Connection] = []
        self._tally = Tally(0)
        self._over = asyncio.Event()

    async def __aenter__(self) -> Crew:
        loop = asyncio.get_running_loop()
        for _ in range(self._size):
            _, connection = await loop.create_connection(lambda: _Connection(self), LOOPBACK, self._port)
            self._connections.append(connection)
        return self

    async def __aexit__(self, *error: object) -> None:
        for connection in self._connections:
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)

    async def send(self, count: int, deadline_seconds: float = DEADLINE_SECONDS) -> Tally:
        """Send `count` requests, as many at a time as there are connections; ends at the deadline at the latest."""
        self._tally = tally = Tally(count)
        self._over.clear()
        began = time.perf_counter()
        for connection in self._connections:
            connection.next()
        try:
            await asyncio.wait_for(self._over.wait(), deadline_seconds)
        except TimeoutError:
            tally.faults.append(
                f"{self.request.name}: {tally.answered} of {count} answered in {deadline_seconds:.0f} s"
            )
        tally.seconds = time.perf_counter() - began
        return tally

    def encode(self) -> bytes:
        """Return the next request, with a number of its own where it has one."""
        if self._numbers is None:
            return self._encoded
        return self._encoded.replace(COUNTER, b"#%08d#" % (next(self._numbers) % 100_000_000))

    def take(self) -> bool:
        """Tell whether one more request is to be sent, and count it."""
        if self._tally.sent >= self._tally.wanted or len(self._tally.faults) >= MOST_FAULTS:
            return False
        self._tally.sent += 1
        return True

    def note(self, fault: str) -> None:
        """Count one answer, or its fault."""
        if fault:
            self._tally.faults.append(fault)
        else:
            self._tally.answered += 1
        if self._tally.is_over or not any(connection.transport for connection in self._connections):
            self._over.set()
