"""Behaviours made of another: cut, held, sliced, compressed, written in another form. They nest in any order that
makes sense: what changes bytes (Formed, Gzipped, Sliced) goes inside, what counts parts (Cut, Held) outside."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from .answer import Answer, Behaviour, Framing, resolve
from .bodies import encode_event, make_error
from .chat import Chat
from .forms import SseForm
from .seen import SeenRequest
from .steps import Ending, Gate, Pause, Repeated, Step


@dataclass(frozen=True)
class Cut:
    """The first `after` parts (of a stream: events; None: all), then `ending`; the headers promise the whole.

    `after=0` ends right after the headers. To cut inside of a plain body or an event, put a Sliced inside.
    """

    of: Behaviour
    after: int | None = 0
    ending: Ending = Ending.RESET

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        return whole.with_parts((*whole.parts[: self.after], self.ending))


@dataclass(frozen=True)
class Truncated:
    """A plain body whose last `missing` bytes never come, before the end of the connection."""

    of: Behaviour = field(default_factory=lambda: Chat(stream=False))
    missing: int = 10
    ending: Ending = Ending.CLOSE

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        body = _join(whole.parts)
        return whole.with_parts((body[: len(body) - self.missing], self.ending))


@dataclass(frozen=True)
class Delayed:
    """Nothing, not even a header, before the gate opens."""

    of: Behaviour
    gate: Gate | Pause

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        return replace(whole, before_head=(self.gate, *whole.before_head))


@dataclass(frozen=True)
class Held:
    """The headers, then the gate before part `before` (of a stream: event); None: before every part and the end.

    `before=0` holds between headers and first event; `before=2` comes after two events. A gate's `let()` passes one.
    """

    of: Behaviour
    gate: Gate | Pause
    before: int | None = 0

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        if self.before is not None:
            return whole.with_parts((*whole.parts[: self.before], self.gate, *whole.parts[self.before :]))
        spaced = [step for part in whole.parts for step in (self.gate, part)]
        return whole.with_parts((*spaced, self.gate))


@dataclass(frozen=True)
class Sliced:
    """The same bytes, written in pieces of these sizes in turn; the cuts take no heed of events and characters.

    Each piece is a chunk and a write of its own, and a client on the same loop runs in between; how many pieces one
    read of the client takes is still the system's choice.
    """

    of: Behaviour
    sizes: int | tuple[int, ...] = 1

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        sizes = cycle((self.sizes,) if isinstance(self.sizes, int) else self.sizes)
        parts: list[Step] = []
        pending = b""
        for part in whole.parts:
            if isinstance(part, bytes):
                pending += part
                continue
            parts += [*_slice(pending, sizes), part]
            pending = b""
        return whole.with_parts((*parts, *_slice(pending, sizes)))


@dataclass(frozen=True)
class Formed:
    """A stream in another form of server-sent events; what is no event of one data line stays as it is."""

    of: Behaviour
    form: SseForm

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        parts: list[Step] = []
        for place, part in enumerate(whole.parts):
            is_event = isinstance(part, bytes) and part.startswith(b"data: ") and part.endswith(b"\n\n")
            if isinstance(part, bytes) and is_event:
                part = self.form.write(part[6:-2], first=place == 0)
            parts.append(part)
        return replace(whole, parts=tuple(parts), declared_length=None)


@dataclass(frozen=True)
class Gzipped:
    """The body compressed, each part flushed; a Huge inside makes a bomb."""

    of: Behaviour

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        squeeze = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        parts: list[Step] = []
        for part in whole.parts:
            match part:
                case bytes():
                    part = squeeze.compress(part) + squeeze.flush(zlib.Z_SYNC_FLUSH)
                case Repeated(piece=piece, times=int() as times):
                    part = b"".join(squeeze.compress(piece) for _ in range(times))
                case _:
                    pass
            parts.append(part)
        zipped = replace(whole, parts=(*parts, squeeze.flush()), declared_length=None)
        return zipped.with_header("Content-Encoding", "gzip")


@dataclass(frozen=True)
class WithHeaders:
    """More headers, next to those there are; the same name may come several times."""

    of: Behaviour
    headers: tuple[tuple[str, str], ...]

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        return replace(whole, headers=(*whole.headers, *self.headers))


@dataclass(frozen=True)
class Typed:
    """Another content type than the body has."""

    of: Behaviour
    content_type: str

    def answer(self, request: SeenRequest) -> Answer:
        return resolve(self.of, request).with_header("Content-Type", self.content_type)


@dataclass(frozen=True)
class Framed:
    """Another way of telling where the body ends."""

    of: Behaviour
    framing: Framing

    def answer(self, request: SeenRequest) -> Answer:
        return replace(resolve(self.of, request), framing=self.framing)


@dataclass(frozen=True)
class Inserted:
    """One more part before part `at`; with `last` the body ends after it, in order."""

    of: Behaviour
    part: Step
    at: int = 0
    last: bool = False

    def answer(self, request: SeenRequest) -> Answer:
        whole = resolve(self.of, request)
        rest = () if self.last else whole.parts[self.at :]
        return replace(whole, parts=(*whole.parts[: self.at], self.part, *rest), declared_length=None)


@dataclass(frozen=True)
class ErrorEvent:
    """A stream with status 200 that fails after `after` events, by an error event, and ends without [DONE]."""

    after: int = 0
    of: Behaviour = field(default_factory=lambda: Chat(stream=True))
    error: Mapping[str, Any] = field(default_factory=lambda: make_error(500))

    def answer(self, request: SeenRequest) -> Answer:
        return Inserted(self.of, encode_event(dict(self.error)), self.after, last=True).answer(request)


@dataclass(frozen=True)
class Changed:
    """The answer as a function of yours changes it, for what no other wrapper does."""

    of: Behaviour
    change: Callable[[Answer], Answer]

    def answer(self, request: SeenRequest) -> Answer:
        return self.change(resolve(self.of, request))


def _join(parts: tuple[Step, ...]) -> bytes:
    return b"".join(part for part in parts if isinstance(part, bytes))


def _slice(content: bytes, sizes: Iterator[int]) -> list[bytes]:
    pieces: list[bytes] = []
    start = 0
    while start < len(content):
        size = next(sizes)
        pieces.append(content[start : start + size])
        start += size
    return pieces
