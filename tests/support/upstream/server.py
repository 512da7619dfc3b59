"""The scripted upstream itself: listens on loopback, sees every request, plays what the script says.

What can be played is in `plain.py`, `chat.py`, `embeddings.py` and `wrappers.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from .answer import Behaviour, resolve
from .correct import Correct
from .player import Player
from .seen import READ_LIMIT_BYTES, Head, MalformedRequest, SeenRequest, read_body, read_head
from .steps import PATIENCE_SECONDS, Bell


@dataclass
class Connection:
    """One connection that a client opened; times in seconds of the event loop's clock."""

    number: int
    opened_at: float
    requests: int = 0
    closed_at: float | None = None
    closed_by_client: bool = False


@dataclass
class Connections:
    """Every connection there was, in their order."""

    every: list[Connection] = field(default_factory=list)

    @property
    def opened(self) -> int:
        return len(self.every)

    @property
    def closed(self) -> int:
        return sum(connection.closed_at is not None for connection in self.every)

    @property
    def open(self) -> int:
        return self.opened - self.closed


class ScriptedUpstream:
    """Plays an OpenAI-compatible server on 127.0.0.1 (or on the Unix socket `socket_path`).

    A request is answered by the first of these that there is: a rule for its path, a rule for its model, the next
    of the script, `otherwise` (a correct answer). Leaving the context closes everything and raises AssertionError
    if the upstream itself failed or was sent something that is not HTTP.
    """

    def __init__(self, *, port: int = 0, socket_path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.requests: list[SeenRequest] = []
        self.connections = Connections()
        self.otherwise: Behaviour = Correct()
        self.in_flight = 0
        self.most_in_flight = 0
        self._socket_path = socket_path
        self._tls = tls
        self._script: deque[Behaviour] = deque()
        self._by_model: dict[str, deque[Behaviour]] = {}
        self._by_path: dict[str, deque[Behaviour]] = {}
        self._served: dict[_Served, asyncio.Task[None]] = {}
        self._failures: list[BaseException] = []
        self._bell = Bell()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """Return what an OpenAI client takes as its base URL, with `/v1`; the host is free to ignore for a Unix socket."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def unplayed(self) -> int:
        """Return how many behaviours of the script were not asked for yet."""
        return len(self._script)

    def script(self, *behaviours: Behaviour) -> None:
        """Append behaviours, one for each request to come."""
        self._script.extend(behaviours)

    def for_model(self, model: str, *behaviours: Behaviour) -> None:
        """Set what requests for this model get: one after the other, the last for ever."""
        self._by_model[model] = deque(behaviours)

    def for_path(self, path: str, *behaviours: Behaviour) -> None:
        """Set what requests to this path (`/v1/models`) get: one after the other, the last for ever."""
        self._by_path[path] = deque(behaviours)

    def calls(self, model: str) -> list[SeenRequest]:
        """Return the requests that named this model, in their order."""
        return [request for request in self.requests if request.model == model]

    async def request(self, index: int = 0, *, within_seconds: float = PATIENCE_SECONDS) -> SeenRequest:
        """Wait for the request of this index (from 0) and return it; raises AssertionError when it does not come."""
        await self._bell.expect(lambda: len(self.requests) > index, f"request {index} seen", within_seconds)
        return self.requests[index]

    async def closed_by_client(self, index: int = 0, *, within_seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until the client closed the connection of the request of this index (from 0).

        Returns when that was, in seconds of the event loop's clock. Raises AssertionError when it does not happen in
        time, or when this side was first.
        """
        request = await self.request(index, within_seconds=within_seconds)
        connection = self.connections.every[request.connection]
        waiting_for = f"connection of request {index} closed by the client"
        await self._bell.expect(lambda: connection.closed_at is not None, waiting_for, within_seconds)
        assert connection.closed_by_client, f"the upstream closed the connection of request {index} first"
        assert connection.closed_at is not None
        return connection.closed_at

    async def idle(self, *, within_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until no request is being answered."""
        await self._bell.expect(lambda: self.in_flight == 0, "no request in flight", within_seconds)

    def drop_connections(self) -> None:
        """Reset every open connection at once, idle or not."""
        for served in list(self._served):
            served.drop()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._socket_path is not None:
            self._server = await loop.create_unix_server(self._accept, str(self._socket_path), ssl=self._tls)
        else:
            self._server = await loop.create_server(self._accept, "127.0.0.1", self.port, ssl=self._tls, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._served.values())
        self.drop_connections()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._bell.expect(lambda: self.connections.open == 0, "every connection closed", PATIENCE_SECONDS)
        await self._server.wait_closed()
        if self._failures:
            told = "; ".join(f"{type(failure).__name__}: {failure}" for failure in self._failures)
            raise AssertionError(f"the scripted upstream itself failed: {told}") from self._failures[0]

    def _accept(self) -> _Served:
        return _Served(self, asyncio.StreamReader(limit=READ_LIMIT_BYTES))

    # What follows is for the connections only.

    def _opened(self, served: _Served) -> Connection:
        connection = Connection(self.connections.opened, asyncio.get_running_loop().time())
        self.connections.every.append(connection)
        task = asyncio.get_running_loop().create_task(served.serve(), name=f"upstream-connection-{connection.number}")
        task.add_done_callback(self._note_failure)
        self._served[served] = task
        return connection

    def _closed(self, served: _Served) -> None:
        self._served.pop(served).cancel()
        self._bell.ring()

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)

    def _see(self, connection: Connection, head: Head, body: bytes) -> SeenRequest:
        path, _, query = head.target.partition("?")
        request = SeenRequest(
            index=len(self.requests),
            connection=connection.number,
            turn=connection.requests,
            method=head.method,
            path=path,
            query=query,
            version=head.version,
            headers=head.headers,
            body=body,
            at=asyncio.get_running_loop().time(),
        )
        connection.requests += 1
        self.requests.append(request)
        self._bell.ring()
        return request

    def _choose(self, request: SeenRequest) -> Behaviour:
        for rule in (self._by_path.get(request.path), self._by_model.get(request.model)):
            if rule:
                return rule.popleft() if len(rule) > 1 else rule[0]
        return self._script.popleft() if self._script else self.otherwise

    def _count(self, change: int) -> None:
        self.in_flight += change
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._bell.ring()


class _Served(asyncio.StreamReaderProtocol):
    """One connection: reads requests one after the other, and knows who closed it."""

    def __init__(self, upstream: ScriptedUpstream, reader: asyncio.StreamReader) -> None:
        super().__init__(reader, self._begin)
        self._upstream = upstream
        self._client_left = False

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._player = Player(writer)
        self._record = self._upstream._opened(self)

    def drop(self) -> None:
        self._player.reset()

    def eof_received(self) -> bool:
        super().eof_received()
        self._client_left = not self._player.left_first
        return False  # no client of HTTP closes one half only, so its FIN is the end of the connection

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._record.closed_at = asyncio.get_running_loop().time()
        self._record.closed_by_client = self._client_left or not self._player.left_first
        self._upstream._closed(self)

    async def serve(self) -> None:
        try:
            while await self._serve_one():
                pass
            self._player.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left: `connection_lost` notes it
        except BaseException:
            self._player.reset()
            raise

    async def _serve_one(self) -> bool:
        head = await read_head(self._reader)
        if head is None:
            return False
        if head.headers.get("Expect", "").lower() == "100-continue":
            await self._player.write_continue()
        body = await read_body(self._reader, head)
        request = self._upstream._see(self._record, head, body)
        self._upstream._count(+1)
        try:
            return await self._player.play(resolve(self._upstream._choose(request), request), request)
        finally:
            self._upstream._count(-1)


__all__ = ["Connection", "Connections", "MalformedRequest", "ScriptedUpstream"]
