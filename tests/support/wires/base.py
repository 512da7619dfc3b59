"""What every wire is to a test, and the real server on loopback that plays scenes on one.

The server is the scripted one of `tests.support.upstream`, so its wrappers (Held, Cut, Sliced, …) and its watching of
connections serve every wire. Nothing here knows how a wire looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

# ruff: noqa: TID252  # mypy takes tests/support for a top-level folder, so its packages name each other like this
from ..upstream import Answer, Behaviour, Ending, Framing, Raw, ScriptedUpstream, SeenRequest, Step, encode
from .scenes import TEXT, Break, Failure, Scene

UPSTREAM_KEY = "upstream-key-canary-0123456789"
SLICE = 8  # characters of a call's arguments in one event
_DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,(.*)")


@dataclass(frozen=True)
class Asked:
    """A request read off its wire, in no wire's words; `images` are pairs of media type and base64."""

    model: str
    stream: bool
    system: str
    text: str
    images: tuple[tuple[str, str], ...]
    tools: tuple[str, ...]
    max_tokens: int | None
    temperature: float | None


class Wire(Protocol):
    """How one kind of upstream speaks. `model` is a name it could have, `root` what follows the port in its URL."""

    name: str
    model: str
    root: str

    def find_mistakes(self, request: SeenRequest) -> Iterator[str]:
        """Give what this upstream would refuse in the request, nothing for a right one."""
        ...

    def read(self, request: SeenRequest) -> Asked: ...

    def refuse(self, failure: Failure, request: SeenRequest) -> Answer: ...

    def perform(self, scene: Scene, request: SeenRequest) -> Answer:
        """Return the good answer, or the stream with its break."""
        ...


class WireUpstream(ScriptedUpstream):
    """A scripted upstream that speaks `wire`; `mistakes` are those of all requests so far, each refused with 400.

    async with WireUpstream(Anthropic()) as upstream:
        upstream.play(TEXT, RATE_LIMITED)
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.mistakes: list[str] = []
        self.otherwise = self.scene(TEXT)

    @property
    def base_url(self) -> str:
        """Return what a client of this wire takes as its base URL."""
        return f"http://127.0.0.1:{self.port}{self.wire.root}"

    def play(self, *scenes: Scene) -> None:
        """Append scenes, one for each request to come."""
        self.script(*map(self.scene, scenes))

    def scene(self, scene: Scene) -> Behaviour:
        """Return the scene as a behaviour, for wrappers to hold or to cut."""

        def answer(request: SeenRequest) -> Answer:
            mistakes = list(self.wire.find_mistakes(request))
            self.mistakes += mistakes
            if mistakes:
                return self.wire.refuse(Failure("bad request", "; ".join(mistakes)), request)
            if scene.hangs:
                return Raw((Ending.HANG,)).answer(request)
            if scene.failure is not None:
                return self.wire.refuse(scene.failure, request)
            return self.wire.perform(scene, request)

        return answer

    async def asked(self, index: int = 0) -> Asked:
        """Wait for the request of this index (from 0) and return what it asks."""
        return self.wire.read(await self.request(index))


def json_answer(content: Any, status: int = 200, retry_after: str | None = None) -> Answer:
    headers = (("Content-Type", "application/json"),)
    more = () if retry_after is None else (("Retry-After", retry_after),)
    return Answer(status, (*headers, *more), (encode(content),))


def event_answer(parts: Iterable[Step]) -> Answer:
    return Answer(200, (("Content-Type", "text/event-stream"),), tuple(parts), Framing.CHUNKED)


def break_step(how: Break, error: bytes) -> Step:
    """Return the step by which a stream breaks; `error` is the wire's own event for it."""
    if isinstance(how.value, Ending):
        return how.value
    return error if how is Break.ERROR else b""


def slices(text: str) -> Iterator[str]:
    """Give a text in the pieces that a stream of it has."""
    return (text[start : start + SLICE] for start in range(0, len(text), SLICE))


def split_data_uri(uri: str) -> tuple[str, str]:
    """Return media type and base64; raises ValueError for anything else."""
    found = _DATA_URI.fullmatch(uri)
    if found is None:
        raise ValueError(f"not a data: URI: {uri[:40]!r}")
    return found[1], found[2]


def check_common(request: SeenRequest, key: str | None) -> Iterator[str]:
    """Give the mistakes of method, type, body and key that every wire refuses."""
    if request.method != "POST":
        yield f"the method is {request.method}"
    if request.headers.get("Content-Type", "").partition(";")[0] != "application/json":
        yield f"the content type is {request.headers.get('Content-Type')!r}"
    if not request.fields:
        yield "the body is not a JSON object"
    if key != UPSTREAM_KEY:
        yield f"the key is {key!r}"
