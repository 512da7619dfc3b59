"""A real model process, started as the gateway starts it, and a client that speaks to it over its socket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A running `python -m gateway.worker`; `ready` is what it reported."""

    process: subprocess.Popen[str]
    socket: Path
    ready: dict[str, Any]

    @property
    def noise(self) -> str:
        """What it has written to standard error."""
        return self.socket.with_suffix(".stderr").read_text(encoding="utf-8")


def command(model: Path, socket: Path, *options: str) -> list[str]:
    arguments = ["--model", str(model), "--socket", str(socket), "--name", model.stem]
    return [sys.executable, "-m", "gateway.worker", *arguments, *options]


def start(model: Path, socket: Path, *options: str, stdin: int = subprocess.DEVNULL) -> Worker:
    """Start a worker and wait until it is ready."""
    with socket.with_suffix(".stderr").open("w") as noise:
        process = subprocess.Popen(
            command(model, socket, *options), stdin=stdin, stdout=subprocess.PIPE, stderr=noise, text=True
        )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["event"] == "ready", ready
    return Worker(process, socket, ready)


def stop(worker: Worker) -> int:
    """End a worker if it still runs and return its exit code."""
    worker.process.terminate()
    try:
        return worker.process.wait(STOP_SECONDS)
    finally:
        worker.process.kill()
        worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def running(model: Path, *options: str, stdin: int = subprocess.DEVNULL) -> Iterator[Worker]:
    """Run a worker in a private directory."""
    with TemporaryDirectory() as directory:
        worker = start(model, Path(directory) / "m.sock", *options, stdin=stdin)
        try:
            yield worker
        finally:
            stop(worker)


class Client:
    """Speaks HTTP to a worker as the gateway does: one connection for each request."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(self, path: str, body: dict[str, Any] | bytes) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._session.post(f"http://model{path}", data=raw) as reply:
            return reply.status, await reply.json(content_type=None)

    async def get(self, path: str) -> int:
        async with self._session.get(f"http://model{path}") as reply:
            return reply.status

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events before `[DONE]`, which must come last."""
        async with self._session.post(f"http://model{path}", json=body | {"stream": True}) as reply:
            assert reply.status == 200, await reply.text()
            assert reply.content_type == "text/event-stream"
            text = ""
            async for line in reply.content:
                text = line.decode().strip().removeprefix("data: ") or text
                if line.startswith(b"data: {"):
                    yield json.loads(text)
            assert text == "[DONE]"


@asynccontextmanager
async def client_of(worker: Worker) -> AsyncIterator[Client]:
    connector = aiohttp.UnixConnector(str(worker.socket), force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Client(session)
