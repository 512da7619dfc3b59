"""Requests that end the processes of local models, remembered so that none of them ends all there are.

One request may meet a defect of llama.cpp or take the memory there is. Its caller, or failover, would ask again and
elsewhere. What a crash looks like is known in `llamacpp.py`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from gateway.call import Flaw, Usage
from gateway.errors import InvalidRequest, UpstreamUnavailable
from gateway.providers.base import Reply
from gateway.wire import dump

MOST_CRASHES = 3
FORGOTTEN_SECONDS = 600.0
_MOST_REMEMBERED = 1000


class Crashes:
    """Counts, for ten minutes after the last one, the processes that ended at work on each request; for all local models.

    One that ended while it worked on others too may have been ended by those. So a request that was there twice is to be
    asked alone, and only when a process ends by it then is it given up on; else it is innocent.
    `clock` gives monotonic seconds. Requests are named by their prints.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    def note(self, known: bytes, *, alone: bool) -> None:
        """Count a process that ended at work on a request, and on no other if `alone`.

        Raises InvalidRequest when that was one too many.
        """
        seen = self._find(known)
        self._seen[known] = _Seen(seen.times + 1, seen.alone + alone, self._clock())
        self._seen.move_to_end(known)
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        self.check(known)

    def check(self, known: bytes) -> None:
        """Raise InvalidRequest for a request that ended as many processes as it may."""
        seen = self._find(known)
        if seen.times >= MOST_CRASHES and seen.alone:
            raise _too_dangerous(seen.times)

    def is_suspect(self, known: bytes) -> bool:
        """Tell whether a request must be asked alone."""
        return self._find(known).times >= MOST_CRASHES - 1

    def acquit(self, known: bytes) -> None:
        """Forget a request that was asked alone and answered."""
        self._seen.pop(known, None)

    def _find(self, known: bytes) -> _Seen:
        seen = self._seen.get(known, _NEVER)
        return seen if self._clock() - seen.at < FORGOTTEN_SECONDS else _NEVER


class _Seen(NamedTuple):
    times: int
    alone: int
    at: float


_NEVER = _Seen(0, 0, 0.0)


class Suspicion:
    """What `crashes` has to do with one request, which is `known` to it; `was_at_work` tells by whom a process ended.

    It is None where the process was not at work on the request, else whether it was at work on that alone.
    """

    def __init__(self, crashes: Crashes, known: bytes, was_at_work: Callable[[], bool | None]) -> None:
        crashes.check(known)
        self._crashes = crashes
        self._known = known
        self._was_at_work = was_at_work
        self.alone = crashes.is_suspect(known)

    def note(self) -> None:
        """Count a process that is gone, if it was at work on this; raises InvalidRequest when that was one too many."""
        alone = self._was_at_work()
        if alone is not None:
            self._crashes.note(self._known, alone=alone)

    def answered(self) -> None:
        """Take note of a good end."""
        if self.alone:
            self._crashes.acquit(self._known)


class CrashNoting:
    """A stream of a model process that notes how it ended."""

    vectors = None

    def __init__(self, inner: Reply, suspicion: Suspicion) -> None:
        self._inner = inner
        self._events = inner.__aiter__()
        self._suspicion = suspicion

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
        except StopAsyncIteration:
            self._suspicion.answered()
            raise
        except UpstreamUnavailable as error:
            try:
                self._suspicion.note()
            except InvalidRequest as last:
                raise last from error
            raise


def print_of(body: Mapping[str, Any], caller: str) -> bytes:
    """Return what stands for a request: all that the engine is told, and who asks."""
    return hashlib.sha256(dump([caller, body])).digest()


def _too_dangerous(times: int) -> InvalidRequest:
    return InvalidRequest(
        f"The process of a local model ended {times} times while it worked on this request, which is not sent to "
        f"one again before {FORGOTTEN_SECONDS / 60:g} minutes have passed.",
        code="request_ends_model",
    )
