"""The connections that litellm asks upstreams over: our own, so that each call sees what went over its line.

Speaks httpx's transport protocol on one side and aiohttp on the other. What an answer means is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import orjson
from yarl import URL

from gateway.errors import GatewayError, UpstreamUnavailable
from gateway.providers.kept import KeepingConnector, begin_asking, found_nobody
from gateway.providers.litellm_endings import Endings
from gateway.providers.litellm_events import EventMeter
from gateway.providers.pool import KEEPALIVE_SECONDS

if TYPE_CHECKING:
    import httpx

MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
_LAST_WORDS_BYTES = 16 * 1024

_T = TypeVar("_T")

_current: ContextVar[Line] = ContextVar("_current")


def current_line() -> Line:
    """Return the line of the call that is being made."""
    return _current.get()


class AnswerTooLarge(aiohttp.ClientError):
    """A plain answer is larger than MAX_REPLY_BYTES."""


class Line:
    """What one call's connection told, below litellm: `status` 0 means that no answer began.

    `refusal` is the body of an answer other than 200, `failure` what broke the connection, `endings` what notes why
    the choices of a stream ended, where that has to be known. The task that makes one asks over it, and `begun` is
    called when the head of its good answer has arrived. `unsaid` are settings of generation that litellm adds though
    nobody asked for them, `foreign` hosts that are not the upstream's. Over a closed one nothing is asked any more.
    `is_cancellable` says that the call leaves nothing behind when it is cancelled now.
    """

    __slots__ = (
        "_last_words",
        "_meter",
        "_response",
        "asking",
        "begun",
        "connect_seconds",
        "endings",
        "failure",
        "foreign",
        "headers",
        "is_cancellable",
        "is_closed",
        "is_stream",
        "refusal",
        "status",
        "unsaid",
    )

    def __init__(
        self,
        connect_seconds: float,
        *,
        is_stream: bool,
        begun: Callable[[], None],
        unsaid: tuple[str, ...] = (),
        endings: Endings | None = None,
        foreign: frozenset[str] = frozenset(),
    ) -> None:
        self.connect_seconds = connect_seconds
        self.is_cancellable = False
        self.is_closed = False
        self.is_stream = is_stream
        self.begun = begun
        self.unsaid = unsaid
        self.endings = endings
        self.foreign = foreign
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.refusal = b""
        self.failure: BaseException | None = None
        self.asking: asyncio.Task[bytes] | None = None  # where a thread waits for the answer
        self._last_words = b""
        self._meter = EventMeter()
        self._response: aiohttp.ClientResponse | None = None
        _current.set(self)

    @property
    def last_words(self) -> bytes:
        """Return the end of what the upstream said so far."""
        return self._last_words

    def close(self) -> None:
        """Give the connection back if its answer was read to the end, close it at once otherwise."""
        self.is_closed = True
        if self._response is not None:
            self._response.close()
        if self.asking is not None:
            self.asking.cancel()

    async def wait_for(self, call: Coroutine[Any, Any, _T]) -> _T:
        """Return what `call` does, which asks over this line; if that is no longer waited for, close the line.

        A call whose request litellm still builds, in a thread, ends where it comes to the line: cancelled before, it
        would leave a coroutine behind that nobody awaits, and Python complain of it in the log.
        """
        asking = asyncio.create_task(call)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            self.close()
            if self.is_cancellable:
                asking.cancel()
            asking.add_done_callback(_forget)
            raise

    async def answer(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Note the head of an answer and return its body, to be read by litellm."""
        self.status, self.headers, self._response = response.status, response.headers, response
        if response.status != 200:
            self.refusal = await response.content.read(MAX_ERROR_BYTES)
            while not response.content.at_eof() and len(self.refusal) < MAX_ERROR_BYTES:
                self.refusal += await response.content.readany()
            response.close()
            return _only(self.refusal)
        self.begun()
        self._meter = EventMeter(response.url.path)
        return self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > MAX_REPLY_BYTES and not self.is_stream:
                    raise AnswerTooLarge
                if self.is_stream:
                    self._listen(piece)
                yield piece
        except (aiohttp.ClientError, GatewayError, OSError) as error:
            self.failure = error
            raise

    def _listen(self, piece: bytes) -> None:
        self._meter.feed(piece)
        if self.endings is not None:
            self.endings.feed(piece)
            if self.endings.pending_bytes > MAX_REPLY_BYTES:
                raise AnswerTooLarge
        self._last_words = (self._last_words + piece)[-_LAST_WORDS_BYTES:]


def _forget(call: asyncio.Future[Any]) -> None:
    if not call.cancelled():
        call.exception()  # asked for, or asyncio would tell it the log


async def _only(body: bytes) -> AsyncIterator[bytes]:
    yield body


class Transport:
    """httpx's asynchronous transport over one aiohttp session, made at the first request."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._spare: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask for the call whose task this is; raises what aiohttp raises."""
        import httpx

        line = current_line()
        await request.aread()
        body = await self.ask(request, line)
        return httpx.Response(line.status, headers=line.headers, content=body, request=request)

    async def ask(self, request: httpx.Request, line: Line) -> AsyncIterator[bytes]:
        """Return the body of the answer, whose head is noted in `line`; the request has been read."""
        if line.is_closed:
            raise asyncio.CancelledError
        line.is_cancellable = True
        try:
            _check_host(request.url.host, line)
            return await line.answer(await self._ask(request, line))
        except (aiohttp.ClientError, GatewayError, OSError) as error:
            line.failure = error
            raise

    async def aclose(self) -> None:
        """Do nothing: litellm closes the client it makes for a retry, which is over the same connections."""

    async def close(self) -> None:
        for session in (self._session, self._spare):
            if session is not None:
                await session.close()

    async def _ask(self, request: httpx.Request, line: Line) -> aiohttp.ClientResponse:
        """Send once more, on a fresh connection, what failed on a kept one before a byte of its answer came."""
        if self._session is None:
            self._session = _open(KeepingConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS))
        arguments: dict[str, Any] = {
            "headers": _headers(request.headers),
            "data": _without(request.content, line.unsaid) or None,
            "allow_redirects": False,
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=line.connect_seconds),
        }
        url = URL(str(request.url), encoded=True)
        begin_asking()
        try:
            return await self._session.request(request.method, url, **arguments)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not found_nobody(error, self._session.connector):
                raise
        if self._spare is None:
            self._spare = _open(aiohttp.TCPConnector(limit=0, force_close=True))
        return await self._spare.request(request.method, url, **arguments)


def _check_host(host: str, line: Line) -> None:
    if host in line.foreign:
        raise UpstreamUnavailable(
            "The upstream cannot be asked: its base_url is not configured.", code="provider_misconfigured"
        )


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if name not in ("content-length", "host", "connection")}
    return {**kept, "accept-encoding": "identity", "user-agent": "gateway"}


def _without(body: bytes, unsaid: tuple[str, ...]) -> bytes:
    if not any(name.encode() in body for name in unsaid):
        return body
    payload = orjson.loads(body)
    settings = payload.get("generationConfig")
    if isinstance(settings, dict):
        for name in unsaid:
            settings.pop(name, None)
    return orjson.dumps(payload)


def _open(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
