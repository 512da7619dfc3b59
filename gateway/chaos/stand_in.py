"""The server that stands in for every upstream: on 127.0.0.1 only, one address for each host it stands in for.

Requests are asked for below `/CASE/PROVIDER/v1`; the case says who is broken in which way, and remembers who was asked.
It speaks HTTP by hand, because most of what it does no server would.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from gateway.chaos.faults import Ending, Fault, Script, outage
from gateway.chaos.sound import Asked, Form, answer_to

LOOPBACK = "127.0.0.1"
_LONGEST_HANG_SECONDS = 3600.0


@dataclass(slots=True)
class Scene:
    """What one case plays: those in `broken` have `fault`, those in `failing` just fail; `asked` were asked, in order."""

    fault: Fault
    broken: frozenset[str]
    failing: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def script_of(self, deployment: str) -> Script | None:
        """Return what goes wrong at a deployment, None if it is sound."""
        if deployment in self.failing:
            return outage()
        return self.fault.script if deployment in self.broken else None


class StandIns:
    """All stand-ins of a run, as an `async with`; `url_of` says where each host is found."""

    def __init__(self) -> None:
        self._scenes: dict[str, Scene] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def open(self, host: str) -> str:
        """Return the address that stands in for `host`, opened when it is first asked for."""
        async with self._opening:  # several cases may be the first to ask
            if host not in self._servers:
                self._servers[host] = await asyncio.start_server(self._take, LOOPBACK, 0)
        return f"http://{LOOPBACK}:{self._servers[host].sockets[0].getsockname()[1]}"

    def play(self, case: str, scene: Scene) -> None:
        """Play `scene` for requests of `case` from now on."""
        self._scenes[case] = scene

    def forget(self, case: str) -> None:
        self._scenes.pop(case, None)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a connection is always served by one
        self._tasks.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # the gateway left, which is its right
        except asyncio.CancelledError:
            return  # the run is over; asyncio would write a trace for each
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether the connection may be used again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        length = next((line.split(":")[1] for line in head if line.lower().startswith("content-length:")), "0")
        body = json.loads(await reader.readexactly(int(length)) or b"{}")
        case, _, below = path[1:].partition("/")
        provider = below.partition("/")[0]
        scene = self._scenes.get(case)
        if scene is None:  # a redirect that was followed, or a case that is over
            writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
            return False
        asked = Asked(_form_of(path, body), f"{provider}/{body['model']}")
        scene.asked.append(asked.deployment)
        script = scene.script_of(asked.deployment)
        if script is None:
            writer.write(answer_to(asked))
            await writer.drain()
            return True
        return await _play(script, asked, reader, writer)


def _form_of(path: str, body: Mapping[str, Any]) -> Form:
    if path.endswith("/embeddings"):
        return "embeddings"
    if path.endswith("/images/generations"):
        return "images"
    return "stream" if body.get("stream") else "chat"


async def _play(script: Script, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Play a script until its end or until the other side leaves; tell whether the connection may be used again."""
    leaving = asyncio.ensure_future(reader.read(1))
    try:
        for step in script(asked):
            if isinstance(step, Ending):
                await _end(step, leaving, writer)
                return False
            await _do(step, leaving, writer)
            if leaving.done():
                return False
    finally:
        leaving.cancel()
    return False  # what may have been read of a next request is lost, so there is none


async def _do(step: bytes | float, leaving: asyncio.Future[bytes], writer: asyncio.StreamWriter) -> None:
    if isinstance(step, float):
        await asyncio.wait({leaving}, timeout=step)
    else:
        writer.write(step)
        await writer.drain()


async def _end(ending: Ending, leaving: asyncio.Future[bytes], writer: asyncio.StreamWriter) -> None:
    if ending is Ending.HANG:
        await asyncio.wait({leaving}, timeout=_LONGEST_HANG_SECONDS)
    elif ending is Ending.RESET:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@contextmanager
def closed_port() -> Iterator[str]:
    """Give an address that refuses connections; it stays taken, so nobody else opens it meanwhile."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        yield f"http://{LOOPBACK}:{taken.getsockname()[1]}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Give an address where connecting neither works nor fails: its queue is full, and Linux drops the rest."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"


def unreachable(fault: Fault) -> AbstractContextManager[str]:
    """Give the address of a host that has a fault without a script."""
    return black_hole() if fault.name == "black-hole" else closed_port()
