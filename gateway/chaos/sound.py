"""What a sound upstream answers, in the bytes of HTTP: the least that OpenAI's clients take, and says who answered.

What goes wrong on the way stands in `faults.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["chat", "stream", "embeddings", "images"]
FORMS: tuple[Form, ...] = ("chat", "stream", "embeddings", "images")
JSON = "application/json"
EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"

_CREATED = 1_700_000_000
_PICTURE = "aGVsbG8="


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to a stand-in: in which form, and for which deployment (`provider/model`)."""

    form: Form
    deployment: str


def text_of(deployment: str) -> str:
    """Return what a sound deployment says; either half has its name, so that halves of two are not taken for one."""
    return f"{deployment} answers as {deployment}"


def head(status: int, content_type: str, length: int | None, **headers: str) -> bytes:
    """Return status line and headers; without a `length` the body is chunked."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", framing]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(status: int, body: bytes, content_type: str = JSON, **headers: str) -> bytes:
    """Return a whole answer with this body."""
    return head(status, content_type, len(body), **headers) + body


def chunk(content: bytes) -> bytes:
    """Return one chunk of a chunked body; of no content, its end."""
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def event(content: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def body_of(asked: Asked) -> bytes:
    """Return the JSON of a whole plain answer."""
    said = text_of(asked.deployment)
    content: dict[str, Any]
    if asked.form == "embeddings":
        # The vector carries nothing: `model` says who made it.
        item = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5, 0.5, -0.5]}
        content = {"object": "list", "data": [item], "model": said, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    elif asked.form == "images":
        content = {"created": _CREATED, "data": [{"b64_json": _PICTURE, "revised_prompt": said}]}
    else:
        message = {"role": "assistant", "content": said, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        content = {**_identity(asked, "chat.completion"), "choices": [choice], "usage": usage}
    return json.dumps(content).encode()


def events_of(asked: Asked) -> Iterator[bytes]:
    """Yield the events of a whole stream: the role, the text in two pieces, the finish, [DONE]."""
    said = text_of(asked.deployment)
    middle = len(said) // 2
    for delta in ({"role": "assistant", "content": ""}, {"content": said[:middle]}, {"content": said[middle:]}):
        yield event(_chunk_of(asked, delta, None))
    yield event(_chunk_of(asked, {}, "stop"))
    yield DONE


def answer_to(asked: Asked) -> bytes:
    """Return the whole of a sound answer."""
    if asked.form != "stream":
        return whole(200, body_of(asked))
    return head(200, EVENTS, None) + b"".join(map(chunk, events_of(asked))) + chunk(b"")


def _chunk_of(asked: Asked, delta: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}
    return {**_identity(asked, "chat.completion.chunk"), "choices": [choice]}


def _identity(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-chaos", "object": kind, "created": _CREATED, "model": asked.deployment}
