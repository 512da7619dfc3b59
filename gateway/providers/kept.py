"""Connections that serve one request after another, and what must be known before a request is sent a second time.

Which failures are worth it, and over which connection it then goes, is decided where requests are sent.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.tracing import Trace

_is_fresh: ContextVar[bool] = ContextVar("_is_fresh", default=True)
_ANSWERED = "_gateway_was_answered"


def begin_asking() -> None:
    """Note that the task at hand begins a request."""
    _is_fresh.set(False)


def found_nobody(error: BaseException, connector: aiohttp.BaseConnector | None) -> bool:
    """Tell whether nothing at all came back over a connection that may have been dead before it was used.

    Whoever began an answer has read the request, and may have done what it asks for.
    """
    return isinstance(connector, KeepingConnector) and not _is_fresh.get() and not hasattr(error, _ANSWERED)


class _Listener(ResponseHandler):
    """Marks the errors of a connection that was lost in the middle of an answer, and is no more lent once it spoke unasked.

    aiohttp makes a parser for each answer, so one that was fed tells that an answer began. This costs a request nothing
    but an assignment for what it receives.
    """

    _fed: object = None

    def data_received(self, data: bytes) -> None:
        self._fed = self._parser
        ResponseHandler.data_received(self, data)  # super() would cost as much as the rest of this

    def is_connected(self) -> bool:
        """Tell whether a request may be sent over it.

        aiohttp looks for left-over bytes only when a connection is put back; what came since would be read as the answer
        to the next request, which is somebody else's.
        """
        return super().is_connected() and not self.should_close

    def set_exception(self, exc: BaseException, *cause: Any) -> None:
        if self._fed is not None and self._fed is self._parser:
            setattr(exc, _ANSWERED, True)
        super().set_exception(exc, *cause)


class KeepingConnector(aiohttp.TCPConnector):
    """Keeps connections, and notes in the asking task's context that one had to be made."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(_Listener, loop=self._loop))

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # the overridden method's own name
    ) -> ResponseHandler:
        _is_fresh.set(True)
        return await super()._create_connection(req, traces, timeout)
