"""What every provider is to the rest of the gateway: one `send`, and a reply that is an `async with`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from gateway.call import Endpoint, Flaw, Queued, Usage


class Patience(Protocol):
    """How long one attempt may take, in seconds."""

    @property
    def connect_seconds(self) -> float: ...
    def begin_seconds(self, *, stream: bool) -> float: ...
    @property
    def between_events_seconds(self) -> float: ...
    @property
    def total_seconds(self) -> float: ...


@dataclass(slots=True)
class Exchange:
    """One question to one upstream model.

    `body` holds the caller's fields and the settings that fill in what it left out; a provider copies what it changes.
    `wants_usage` says whether a stream's caller asked for the usage chunk. `allowed_extra` are fields beyond OpenAI's
    that the configuration lets through where a provider passes on known fields only. Where requests wait for their turn,
    `caller` is who takes turns, `most_waiting` behind how many others this one would wait; the provider fills in
    `may_wait`, that there is a queue, so that no answer yet is no sign of ill health, `ticket`, its name in the queue, and
    `queued`, how it was there. `max_output_tokens` is the longest answer that the configuration lets the model make, for
    where one has to be said and `body` says none. `dimensions` are the numbers that each vector is to have, unless
    `body` says that; None where any number will do.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    model: str
    patience: Patience
    stream: bool = False
    wants_usage: bool = False
    allowed_extra: frozenset[str] = frozenset()
    caller: str = ""
    most_waiting: int | None = None
    may_wait: bool = False
    ticket: str = ""
    queued: Queued | None = None
    max_output_tokens: int | None = None
    dimensions: int | None = None


def account_of(host: str, *secrets: str) -> Hashable:
    """Return what stands for a host and the key it is asked with, without telling the key."""
    return host, hashlib.blake2b("\0".join(secrets).encode(), digest_size=16).digest()


class Reply(Protocol):
    """An upstream's good answer, closed by leaving its `async with`.

    A plain one has its whole `body`, but where embeddings were asked for the `vectors` instead, in the order of the
    inputs: float32, little-endian, all of one size. A stream has neither and yields blocks of whole events when
    iterated, the first of which has already arrived; `is_complete` says that the block just yielded was the last.
    Iterating raises UpstreamError when the stream breaks.
    `usage` is known at the end, where the upstream told it, and so are `flaws`: what was wrong with an answer that could
    be used all the same.
    """

    @property
    def body(self) -> bytes: ...
    @property
    def vectors(self) -> tuple[bytes, ...] | None: ...
    @property
    def is_complete(self) -> bool: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def flaws(self) -> tuple[Flaw, ...]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Provider(Protocol):
    """Code and credentials for one kind of far side.

    Providers of one `account` are the same host and key to the far side; None where models share nothing.
    """

    name: str

    @property
    def account(self) -> Hashable: ...

    async def send(self, exchange: Exchange) -> Reply:
        """Ask, and return once a plain answer is whole or a stream's first event has arrived and parsed.

        Raises UpstreamError, or ContextLengthExceeded when the upstream says the request is too long for the model.
        """
        ...

    async def is_ready(self, model: str) -> bool:
        """Tell whether `model` could be asked now, without asking it anything."""
        ...

    async def close(self) -> None: ...


class PlainReply:
    """A whole answer; nothing is left open. `model` is the upstream's own name of it, "" where nobody needs that."""

    __slots__ = ("body", "flaws", "model", "usage", "vectors")
    is_complete = True

    def __init__(
        self,
        body: bytes,
        usage: Usage | None,
        flaws: tuple[Flaw, ...] = (),
        vectors: tuple[bytes, ...] | None = None,
        model: str = "",
    ) -> None:
        self.body = body
        self.usage = usage
        self.flaws = flaws
        self.vectors = vectors
        self.model = model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body
