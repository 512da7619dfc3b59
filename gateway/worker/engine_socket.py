"""An engine that is an HTTP server of its own in this process, asked over a Unix socket beside the front's.

What must not live here: anything about the binding that runs the server.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson

from gateway.worker.engine import Body
from gateway.worker.reports import Failure

HEALTH_SECONDS = 0.02
HEALTH_TRIES = 1500  # half a minute, for a server that already listens
LARGEST_READ = 64 * 1024
LARGEST_SINGLE_WRITE = 1024 * 1024  # what is longer is written in pieces, so that other requests get their turn
EVENT_STREAM = "text/event-stream"
_END = b"\n\n"


def await_health(path: Path) -> None:
    """Return when the server at `path` says that it is well; raises Failure."""
    for _ in range(HEALTH_TRIES):
        connection = _UnixConnection(path)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(HEALTH_SECONDS)
    raise Failure("the model was loaded, but its server does not answer")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EngineSocket:
    """The model behind the socket at `path`; `server` is what must exist for as long as it is asked."""

    def __init__(self, path: Path, server: object = None) -> None:
        self._path = path
        self._server = server
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, path: str, body: Body) -> RelayedAnswer:
        """Ask, over a connection of its own; raises ConnectionError when the engine breaks off."""
        if self._session is None:
            self._session = self._open()
        try:
            response = await self._session.post(f"http://engine{path}", data=_payload(orjson.dumps(body)))
            answer = RelayedAnswer(response)
            try:
                await answer.begin()
            except BaseException:
                response.close()
                raise
        except aiohttp.ClientError as error:
            raise ConnectionError(f"the engine broke off ({type(error).__name__})") from error
        return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # llama.cpp's server leaves a connection unusable after a stream, so each one serves one request.
            connector=aiohttp.UnixConnector(str(self._path), force_close=True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=LARGEST_READ,
        )


class RelayedAnswer:
    """An answer whose bytes are passed on as they come, those of a stream at the ends of events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._is_stream = response.content_type == EVENT_STREAM
        self._first = b""
        self._rest = b""

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def content_type(self) -> str:
        return self._response.content_type

    async def begin(self) -> None:
        """Wait for the first event of a stream."""
        if self._is_stream:
            self._first = await self._read()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            block = self._first or await self._read()
            while block:
                yield block
                block = await self._read()
        except aiohttp.ClientError as error:
            raise ConnectionError(f"the engine broke off ({type(error).__name__})") from error

    async def close(self) -> None:
        self._response.close()

    async def _read(self) -> bytes:
        """Return the next whole events, of what is no stream the next bytes; b"" at the end."""
        while piece := await self._response.content.readany():
            if not self._is_stream:
                return piece
            whole, end, rest = (self._rest + piece).rpartition(_END)
            self._rest = rest
            if end:
                return whole + end
        last, self._rest = self._rest, b""
        return last


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= LARGEST_SINGLE_WRITE else io.BytesIO(body)
