"""Connections to one upstream: kept while idle, and a fresh one where a kept one turned out dead.

What is sent over them and what an answer means is not known here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.providers.kept import KeepingConnector, begin_asking, found_nobody
from gateway.providers.names import CappedResolver

KEEPALIVE_SECONDS = 15.0  # shorter than any server's, so that idle connections are ours to close
READ_AHEAD_BYTES = 32 * 1024  # an upstream is read on when less than this waits to be taken
LARGEST_SINGLE_WRITE = 1024 * 1024  # what is longer is written in pieces, so that other requests get their turn


class _Connector(aiohttp.TCPConnector):
    """Ends the look-ups of names with itself; aiohttp leaves that to whoever made the resolver."""

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        await self._resolver.close()


class _KeepingConnector(_Connector, KeepingConnector):
    """Ends its look-ups, and tells of dead connections."""


def keep_tcp(resolver: AbstractResolver | None = None) -> aiohttp.BaseConnector:
    """Return what keeps connections; `resolver` finds the addresses, by default the system's own in bounded time."""
    return _KeepingConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, resolver=resolver or _system_resolver())


def _system_resolver() -> AbstractResolver:
    return CappedResolver(aiohttp.DefaultResolver())


class Pool:
    """Posts to one upstream; sessions are made at the first call, for the event loop that runs by then."""

    def __init__(self, headers: Mapping[str, str], connect: Callable[[], aiohttp.BaseConnector] = keep_tcp) -> None:
        self._headers = headers
        self._connect = connect
        self._session: aiohttp.ClientSession | None = None
        self._spare: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def post(
        self, url: URL, body: bytes, connect_seconds: float, headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """Return the answer's head, whatever its status; `headers` are this request's own. Raises what aiohttp raises.

        An upstream may close an idle connection in the moment it is used again. That costs no attempt: a request
        that failed on a kept connection before a byte of its answer came is sent once more, on a fresh one.
        """
        if self._session is None:
            self._session = self._open(self._connect())
        timeout = self._timeouts.get(connect_seconds)
        if timeout is None:
            timeout = self._timeouts[connect_seconds] = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds)
        begin_asking()
        try:
            return await self._session.post(
                url, data=_payload(body), headers=headers, allow_redirects=False, timeout=timeout
            )
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not found_nobody(error, self._session.connector):
                raise
        if self._spare is None:
            fresh = _Connector(limit=0, force_close=True, resolver=_system_resolver())
            self._spare = self._open(fresh)
        return await self._spare.post(url, data=_payload(body), headers=headers, allow_redirects=False, timeout=timeout)

    async def close(self) -> None:
        for session in (self._session, self._spare):
            if session is not None:
                await session.close()

    def _open(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            read_bufsize=READ_AHEAD_BYTES,
        )


class Lifeline:
    """Closes a response whose connection is gone while its body is not whole.

    aiohttp itself leaves the reader waiting when what comes in the middle of a body is not HTTP.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def sweep(self, _now: float) -> None:
        if is_lost(self._response):
            self._response.close()


def is_lost(response: aiohttp.ClientResponse) -> bool:
    """Tell whether the rest of a response's body can never come."""
    if response.content.is_eof():
        return False
    connection = response.connection
    return connection is None or connection.transport is None


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= LARGEST_SINGLE_WRITE else io.BytesIO(body)
