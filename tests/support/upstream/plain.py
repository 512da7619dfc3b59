"""Behaviours that are no generated text: statuses, redirects, strange bodies, dead connections, lists of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .answer import Answer, Behaviour, Framing, resolve
from .bodies import encode, make_error, make_model, make_model_list
from .chat import EVENT_STREAM, Chat
from .seen import SeenRequest
from .steps import Ending, Repeated, Step

JSON = "application/json"


@dataclass(frozen=True)
class Status:
    """A status with OpenAI's error, or with `body`: an object for JSON, a str for text/plain, bytes without a type.

    `message`, `kind`, `code`, `param` fill the error; what is not given follows from the status.
    """

    status: int
    body: Mapping[str, Any] | str | bytes | None = None
    retry_after: str | None = None
    message: str = ""
    kind: str | None = None
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request: SeenRequest) -> Answer:
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = self.retry_after
        match self.body:
            case bytes():
                content = self.body
            case str():
                headers.setdefault("Content-Type", "text/plain; charset=utf-8")
                content = self.body.encode()
            case _:
                headers.setdefault("Content-Type", JSON)
                error = make_error(self.status, self.message, kind=self.kind, code=self.code, param=self.param)
                content = encode(error if self.body is None else dict(self.body))
        return Answer(self.status, tuple(headers.items()), (content,))


@dataclass(frozen=True)
class Body:
    """Any bytes as the body."""

    content: bytes
    content_type: str = JSON
    status: int = 200

    def answer(self, request: SeenRequest) -> Answer:
        return Answer(self.status, (("Content-Type", self.content_type),), (self.content,))


@dataclass(frozen=True)
class Html:
    """A page, as proxies and captive portals give it."""

    status: int = 200
    content: str = "<!doctype html><html><body><h1>It works!</h1></body></html>"

    def answer(self, request: SeenRequest) -> Answer:
        return Body(self.content.encode(), "text/html; charset=utf-8", self.status).answer(request)


@dataclass(frozen=True)
class Malformed:
    """200 and the type of JSON, but half an object."""

    def answer(self, request: SeenRequest) -> Answer:
        return Body(b'{"id": "chatcmpl-1", "choices": [').answer(request)


@dataclass(frozen=True)
class Huge:
    """A body of `size` bytes, made on the way; chunked, or with its Content-Length."""

    size: int
    piece: bytes = b" " * 65_536
    content_type: str = JSON
    framing: Framing = Framing.CHUNKED

    def answer(self, request: SeenRequest) -> Answer:
        whole, rest = divmod(self.size, len(self.piece))
        parts: tuple[Step, ...] = (Repeated(self.piece, whole), self.piece[:rest])
        return Answer(200, (("Content-Type", self.content_type),), parts, self.framing)


@dataclass(frozen=True)
class Redirect:
    """A redirect to another place; the body says nothing."""

    status: int
    location: str

    def answer(self, request: SeenRequest) -> Answer:
        return Answer(self.status, (("Location", self.location),), (b"",))


@dataclass(frozen=True)
class Events:
    """A stream of exactly these parts: raw bytes of events, gates, endings."""

    parts: tuple[Step, ...]

    def answer(self, request: SeenRequest) -> Answer:
        return Answer(200, (("Content-Type", EVENT_STREAM),), self.parts, Framing.CHUNKED)


@dataclass(frozen=True)
class CommentsOnly:
    """A stream of keep-alive comments that never has an event."""

    every_seconds: float = 0.01
    times: int | None = None

    def answer(self, request: SeenRequest) -> Answer:
        return Events((Repeated(b": ping\n\n", self.times, self.every_seconds),)).answer(request)


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes in place of an HTTP answer, then the end of the connection (or an Ending among the steps)."""

    steps: tuple[Step, ...]

    def answer(self, request: SeenRequest) -> Answer:
        return Answer(status=None, before_head=self.steps)


@dataclass(frozen=True)
class Reset:
    """The connection is reset before any byte."""

    def answer(self, request: SeenRequest) -> Answer:
        return Raw((Ending.RESET,)).answer(request)


@dataclass(frozen=True)
class Hang:
    """Never a byte; the connection stays until the client leaves."""

    def answer(self, request: SeenRequest) -> Answer:
        return Raw((Ending.HANG,)).answer(request)


@dataclass(frozen=True)
class Stale:
    """On a connection that was used before, `ending` without a byte; on a fresh one, `fresh`."""

    fresh: Behaviour = field(default_factory=Chat)
    ending: Ending = Ending.RESET

    def answer(self, request: SeenRequest) -> Answer:
        return Raw((self.ending,)).answer(request) if request.reused else resolve(self.fresh, request)


@dataclass(frozen=True)
class Models:
    """The list of models; with an id behind the path, that one, or 404 when it is not in the list."""

    names: tuple[str, ...] = ("small", "large", "vendor/with slash")

    def answer(self, request: SeenRequest) -> Answer:
        _, _, name = unquote(request.path).partition("/models")
        name = name.strip("/")
        if not name:
            return Body(encode(make_model_list(self.names))).answer(request)
        if name in self.names:
            return Body(encode(make_model(name))).answer(request)
        message = f"The model '{name}' does not exist"
        return Status(404, message=message, kind="invalid_request_error", code="model_not_found", param="model").answer(
            request
        )
