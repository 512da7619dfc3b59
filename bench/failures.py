"""What failures cost the caller: how soon an outage is told, how soon an upstream is let go when its caller leaves.

These are times, not processor costs: they are bounds of promises in milliseconds, wide beside what a busy machine adds.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from bench.canned import API_KEY
from bench.load import LOOPBACK

WARM_UP_CALLS = 60  # open the breakers of three dead deployments
OUTAGE_CALLS = 1_000
LEAVING_CALLS = 100
WAIT_SECONDS = 5.0

_HELD_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_FIRST_EVENT = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "held",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None}],
    }
)


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """The 99th percentile and the largest of some times."""

    p99: float
    largest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Milliseconds:
        ordered = sorted(seconds)
        return cls(ordered[math.ceil(0.99 * len(ordered)) - 1] * 1000, ordered[-1] * 1000)


@dataclass
class Holder:
    """An upstream that takes requests and never finishes an answer; it notes when each connection is let go."""

    port: int = 0
    held: asyncio.Queue[asyncio.Future[float]] = field(default_factory=asyncio.Queue)
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = orjson.loads(await reader.readexactly(length))
        if body.get("stream") and body["model"] == "held-midway":
            event = b"data: " + _FIRST_EVENT + b"\n\n"
            writer.write(_HELD_HEAD + b"%x\r\n%b\r\n" % (len(event), event))
        gone: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.held.put_nowait(gone)
        try:
            await reader.read(1)
        except ConnectionError:
            pass  # a reset is an end as well
        finally:
            gone.set_result(time.perf_counter())
            writer.close()


async def outage(port: int, alias: str) -> Milliseconds:
    """Return how long the error takes when every deployment of `alias` is dead and its breaker open."""
    times = []
    for number in range(WARM_UP_CALLS + OUTAGE_CALLS):
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(request(alias, stream=False, close=True))
        answer = await reader.read()
        writer.close()
        if not answer.startswith((b"HTTP/1.1 502", b"HTTP/1.1 503")):
            raise ValueError(f"an outage was answered with {answer[:80]!r}")
        if number >= WARM_UP_CALLS:
            times.append(time.perf_counter() - began)
    return Milliseconds.of(times)


async def leaving(port: int, holder: Holder, alias: str, *, stream: bool, midway: bool = False) -> Milliseconds:
    """Return how long after the caller has left its upstream's connection is closed."""
    times = []
    for _ in range(LEAVING_CALLS):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(request(alias, stream=stream))
        async with asyncio.timeout(WAIT_SECONDS):
            gone = await holder.held.get()
            if midway:
                await reader.readuntil(b"chat.completion.chunk")
        left = time.perf_counter()
        writer.transport.abort()
        async with asyncio.timeout(WAIT_SECONDS):
            times.append(await gone - left)
    return Milliseconds.of(times)


def request(alias: str, *, stream: bool, close: bool = False) -> bytes:
    """Return a chat request as it goes over the wire."""
    body = orjson.dumps({"model": alias, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
    end = b"Connection: close\r\n" if close else b""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n%b\r\n%b" % (API_KEY.encode(), len(body), end, body)
    )
