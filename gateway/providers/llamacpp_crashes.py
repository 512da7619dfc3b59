"""Requests that end the processes of local models, remembered so that none of them ends all there are.

One request may meet a defect of llama.cpp or take the memory there is. Its caller, or failover, would ask again and
elsewhere. What a crash looks like is known in `llamacpp.py`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from gateway.call import Flaw, Usage
from gateway.errors import InvalidRequest, UpstreamUnavailable
from gateway.providers.base import Reply
from gateway.wire import dump

MOST_CRASHES = 3
FORGOTTEN_SECONDS = 600.0
_MOST_REMEMBERED = 1000
_ASKED = ("messages", "prompt", "input", "query", "documents")


class Crashes:
    """Counts, for ten minutes after the last one, how many processes each request ended; shared by all local models.

    `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def note(self, body: Mapping[str, Any]) -> None:
        """Count a process that ended while it worked on `body`; raises InvalidRequest when that was one too many."""
        known = _print_of(body)
        count = self._count(known) + 1
        self._seen[known] = (count, self._clock())
        self._seen.move_to_end(known)
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        if count >= MOST_CRASHES:
            raise _too_dangerous()

    def check(self, body: Mapping[str, Any]) -> None:
        """Raise InvalidRequest for a request that ended as many processes as it may."""
        if self._seen and self._count(_print_of(body)) >= MOST_CRASHES:
            raise _too_dangerous()

    def _count(self, known: bytes) -> int:
        count, at = self._seen.get(known, (0, 0.0))
        return count if self._clock() - at < FORGOTTEN_SECONDS else 0


class CrashNoting:
    """A stream of a model process that notes in `crashes` when the process ended while it answered `body`."""

    def __init__(self, inner: Reply, crashes: Crashes, body: Mapping[str, Any]) -> None:
        self._inner = inner
        self._events = inner.__aiter__()
        self._crashes = crashes
        self._request = body

    @property
    def body(self) -> bytes:
        return self._inner.body

    @property
    def is_complete(self) -> bool:
        return self._inner.is_complete

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        return self._inner.flaws

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._events.__anext__()
        except UpstreamUnavailable as error:
            try:
                self._crashes.note(self._request)
            except InvalidRequest as last:
                raise last from error
            raise


def _print_of(body: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(dump([body.get(name) for name in _ASKED])).digest()


def _too_dangerous() -> InvalidRequest:
    return InvalidRequest(
        f"The process of a local model ended {MOST_CRASHES} times while it worked on this request, which is not sent to "
        f"one again before {FORGOTTEN_SECONDS / 60:g} minutes have passed.",
        code="request_ends_model",
    )
