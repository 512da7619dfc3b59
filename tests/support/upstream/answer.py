"""What a behaviour gives back: one answer as frozen steps, so that wrappers can change it before it is played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from .seen import SeenRequest
from .steps import Step, size_of

Headers = tuple[tuple[str, str], ...]


class Framing(Enum):
    """How the client is told where the body ends."""

    LENGTH = "length"
    CHUNKED = "chunked"  # every bytes step is a chunk of its own
    CLOSE = "close"  # by the end of the connection


@dataclass(frozen=True)
class Answer:
    """One HTTP answer.

    `before_head` is played raw, before the status line; with `status` None it is all there is.
    `declared_length` overrides the Content-Length, for bodies that are cut.
    """

    status: int | None = 200
    headers: Headers = ()
    parts: tuple[Step, ...] = ()
    framing: Framing = Framing.LENGTH
    before_head: tuple[Step, ...] = ()
    declared_length: int | None = None

    @property
    def length(self) -> int:
        if self.declared_length is not None:
            return self.declared_length
        size = size_of(self.parts)
        assert size is not None, "an endless body has no Content-Length: use Framing.CHUNKED"
        return size

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def with_header(self, name: str, value: str) -> Answer:
        """Return the same answer with this header set, any others of its name removed."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return replace(self, headers=(*kept, (name, value)))

    def with_parts(self, parts: tuple[Step, ...]) -> Answer:
        """Return the same answer with other parts, the Content-Length still that of the present ones."""
        promised = self.length if self.framing is Framing.LENGTH else None
        return replace(self, parts=parts, declared_length=promised)


class Scripted(Protocol):
    """Anything that can answer a request; all behaviours are frozen dataclasses of this shape."""

    def answer(self, request: SeenRequest) -> Answer: ...


# A plain function may stand for a behaviour; it chooses one by the request.
Behaviour = Scripted | Callable[[SeenRequest], Scripted | Answer] | Answer


def resolve(behaviour: Behaviour, request: SeenRequest) -> Answer:
    """Return the answer that the behaviour gives to this request."""
    while not isinstance(behaviour, Answer):
        behaviour = behaviour.answer(request) if hasattr(behaviour, "answer") else behaviour(request)
    return behaviour
