"""Servers that speak no HTTP at all: bare sockets on 127.0.0.1 that do one thing to whoever connects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(act: Act) -> AsyncIterator[int]:
    """Do `act` on each connection to the port that is given; afterwards every connection is closed."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with suppress(ConnectionError):
                await act(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        yield server.sockets[0].getsockname()[1]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read, and never say a word."""
    while await reader.read(65_536):
        pass


async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer whatever comes with HTTP in the clear."""
    await reader.read(65_536)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection after the first bytes."""
    await reader.read(65_536)
    writer.transport.abort()
