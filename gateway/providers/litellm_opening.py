"""The connections that litellm opens, by itself or for us: made over those of the call at hand.

So they follow no redirect, have the limits of the lane, and each call sees what went over its line. litellm's own
factories are replaced for that, once; a test fails when a new version of it opens connections in another way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import aiohttp

from gateway.errors import GatewayError

if TYPE_CHECKING:
    import httpx

    from gateway.providers.litellm_line import Transport
    from gateway.providers.litellm_threads import ThreadTransport

_transport: ContextVar[Transport] = ContextVar("_transport")
_threads: ContextVar[ThreadTransport] = ContextVar("_threads")

_ONCE: Mapping[str, str] = MappingProxyType({"x-should-retry": "false"})  # OpenAI's client heeds it


class WouldBlock(Exception):
    """litellm wants to wait for an answer where that would hold up every other call."""


def lend(transport: Transport, threads: ThreadTransport) -> None:
    """Let what the task at hand, and threads of it, ask through litellm go over these."""
    _transport.set(transport)
    _threads.set(threads)


class Lent:
    """httpx's transport over whichever connections the call at hand was lent."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask once; what broke the connection is noted in the call's line."""
        try:
            return _final(await _transport.get().handle_async_request(request))
        except (aiohttp.ClientError, GatewayError, OSError):
            return _broken(request)

    async def aclose(self) -> None:
        """Do nothing: the connections are the lane's."""

    async def __aenter__(self) -> Lent:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing, as `aclose`."""


class LentToThread:
    """The same for litellm's functions that block a thread."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask from a thread; raises WouldBlock on the event loop, whose own answer would never come."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._ask(request)
        raise WouldBlock("litellm asks this upstream in a way that holds up all other calls.")

    def close(self) -> None:
        """Do nothing: the connections are the lane's."""

    def _ask(self, request: httpx.Request) -> httpx.Response:
        try:
            return _final(_threads.get().handle_request(request))
        except (aiohttp.ClientError, GatewayError, OSError):
            return _broken(request)

    def __enter__(self) -> LentToThread:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing, as `close`."""


def take_over(library: Any) -> None:
    """Make every client that litellm opens from now on, and those it opened while it was imported, a lent one.

    Raises ImportError where this version of litellm opens them in another way: better no lane than one that leaks.
    """
    handlers = import_module("litellm.llms.custom_httpx.http_handler")
    replaced = ((handlers.AsyncHTTPHandler, _open), (handlers.HTTPHandler, _open_blocking))
    sessions = (("aclient_session", _open), ("client_session", _open_blocking))
    missing = [f"{kind.__name__}.create_client" for kind, _ in replaced if "create_client" not in vars(kind)]
    missing += [name for name, _ in sessions if name not in vars(library)]
    if missing:
        raise ImportError(f"this version of litellm has no {missing[0]}, over which its connections are replaced")
    if handlers.HTTPHandler.create_client is _open_blocking:
        return  # by another provider; clients that litellm keeps are told apart by the session they have
    for name, opener in sessions:
        setattr(library, name, opener())
    for kind, opener in replaced:
        kind.create_client = opener
        for kept in list(library.in_memory_llm_clients_cache.cache_dict.values()):
            if isinstance(kept, kind):
                kept.client = opener()


def _open(*_: object, **__: object) -> Any:
    import httpx

    return httpx.AsyncClient(transport=Lent(), follow_redirects=False, trust_env=False)  # type: ignore[arg-type]


def _open_blocking(*_: object, **__: object) -> Any:
    import httpx

    return httpx.Client(transport=LentToThread(), follow_redirects=False, trust_env=False)  # type: ignore[arg-type]


def _final(response: httpx.Response) -> httpx.Response:
    """Return an answer that leads nowhere, neither elsewhere nor to another attempt, whatever a request or client says."""
    response.headers.pop("location", None)
    response.headers.update(_ONCE)
    return response


def _broken(request: httpx.Request) -> httpx.Response:
    """Return an answer in place of an error, which OpenAI's client would try again after."""
    import httpx

    return httpx.Response(503, headers=_ONCE, request=request)
