"""A reply that litellm streams: pulls one piece at a time and gives whole events on.

Nothing is queued, as in `stream.py`. What the events hold is decided in `litellm_chunks.py`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Self

from gateway.call import Flaw, Usage
from gateway.errors import GatewayError, UpstreamProtocolError, UpstreamTimeout
from gateway.providers.base import Patience
from gateway.providers.litellm_chunks import Chunks
from gateway.providers.litellm_environment import unseen
from gateway.providers.litellm_errors import explain_break, interrupted
from gateway.providers.litellm_line import Line
from gateway.providers.sweeper import Sweeper, TimeLimit

END: Final = object()


class Source:
    """The pieces of one stream of litellm's.

    `wrapper` is what litellm answered. Where the provider's pieces are already in litellm's own form they are read
    from below it: the wrapper would lose the finish of all choices but the first, count tokens and keep every piece.
    Where the pieces cannot be believed about being the last, or lose it, the line has noted the endings.
    """

    def __init__(self, wrapper: Any, line: Line, *, is_direct: bool) -> None:
        self._wrapper = wrapper
        self._line = line
        self._is_direct = is_direct
        self._only_endings = is_direct and line.endings is not None
        self._pieces: AsyncIterator[Any] | None = None

    async def open(self) -> None:
        """Ask the upstream, if that was not done yet."""
        stream = await self._wrapper.fetch_stream() if self._is_direct else self._wrapper
        if not hasattr(stream, "__aiter__"):
            stream = self._wrapper
            self._is_direct = False
        self._pieces = aiter(stream)

    async def next(self) -> Any:
        """Return the next piece, END at the end; some pieces are None and say nothing."""
        with unseen():  # some ask the upstream only now
            return END if self._pieces is None else await anext(self._pieces, END)

    def has_ended(self, choices: int) -> bool:
        """Tell whether the upstream itself said why it ended: litellm says so in its place if it did not."""
        has_ended = self._line.endings is not None and self._line.endings.count >= choices
        if has_ended or self._only_endings:
            return has_ended
        if self._is_direct:
            return True
        names = ("received_finish_reason", "intermittent_finish_reason")
        return any(getattr(self._wrapper, name, None) is not None for name in names)

    @property
    def finishes(self) -> Mapping[int, str]:
        """Return why choices ended, by index, where litellm may have lost it."""
        endings = self._line.endings
        return {} if endings is None or self._only_endings else endings.reasons

    async def close(self) -> None:
        for stream in (getattr(self._pieces, "streaming_response", None), self._pieces):
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()


class LiteLLMStream:
    """An open stream of litellm's, closed by leaving its `async with`."""

    __slots__ = (
        "_chunks",
        "_first",
        "_line",
        "_overdue",
        "_patience",
        "_secrets",
        "_source",
        "_started",
        "_sweeper",
        "_waiting_since",
        "body",
        "is_complete",
    )
    vectors = None

    def __init__(
        self, source: Source, chunks: Chunks, line: Line, patience: Patience, sweeper: Sweeper, secrets: Sequence[str]
    ) -> None:
        self.body = b""
        self.is_complete = False
        self._source = source
        self._chunks = chunks
        self._line = line
        self._patience = patience
        self._sweeper = sweeper
        self._secrets = secrets
        self._first = b""
        self._started = time.monotonic()
        self._waiting_since: float | None = None  # None while the caller, not the upstream, is waited for
        self._overdue = ""

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        return ()  # what litellm makes of a stream has its end and a usage that can be read

    @property
    def usage(self) -> Usage | None:
        return self._chunks.usage

    async def wait_for_first_event(self) -> None:
        """Read until something was said of a choice; raises what an error event or an empty stream means."""
        while not (self._chunks.begun or self.is_complete):
            self._first += await self._read()

    async def __aenter__(self) -> Self:
        self._sweeper.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sweeper.discard(self)
        self._line.close()
        await self._source.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        block, self._first = self._first, b""
        while not (block or self.is_complete):
            block = await self._read()
        if not block:
            raise StopAsyncIteration
        return block

    async def _read(self) -> bytes:
        """Return the next events, b"" if a piece says nothing; at the end, sets `is_complete` or raises."""
        self._waiting_since = time.monotonic()
        try:
            piece = await self._next()
            self._waiting_since = None
            return self._end() if piece is END else self._chunks.feed(piece)
        except Exception as error:  # noqa: BLE001  # litellm raises whatever its parsers do
            if type(error) is TimeoutError and not self._line.status:  # the limit's own, see _next
                self._overdue = self._overdue or self._silence
            if self._has_ended:
                return self._end()  # everything was said, only the end of the body was left out
            if self._overdue:
                raise UpstreamTimeout(self._overdue, code="upstream_stream_stalled") from None
            if isinstance(self._line.failure, GatewayError):
                raise self._line.failure from None
            raise explain_break(error, self._line, self._secrets) from None

    async def _next(self) -> Any:
        if self._line.status:
            return await self._source.next()  # ended by the sweep, which closes the line
        rest = self._started + self._patience.total_seconds - time.monotonic()
        with TimeLimit(self._sweeper, min(rest, self._patience.between_events_seconds)):
            return await self._source.next()

    @property
    def _silence(self) -> str:
        return f"The upstream sent nothing for {self._patience.between_events_seconds:g} seconds."

    def _end(self) -> bytes:
        if not self._chunks.begun:
            raise UpstreamProtocolError("The upstream's stream ended before it began.", code="upstream_empty_stream")
        if not self._has_ended:
            raise interrupted()
        self.is_complete = True
        return self._chunks.closing()

    @property
    def _has_ended(self) -> bool:
        self._chunks.note_finishes(self._source.finishes)
        return self._chunks.is_finished and self._source.has_ended(self._chunks.begun)

    def sweep(self, now: float) -> None:
        """Close the upstream when it, not the caller, lets the stream wait too long."""
        if now >= self._started + self._patience.total_seconds:
            self._overdue = f"The stream took longer than {self._patience.total_seconds:g} seconds."
        elif self._waiting_since is not None and now - self._waiting_since >= self._patience.between_events_seconds:
            self._overdue = self._silence
        if self._overdue:
            self._line.close()
