"""The requests that are sent and the answers that the canned upstream gives, as bytes.

How they travel is `upstream.py` and `load.py`; nothing here opens anything.
"""

from __future__ import annotations

import base64
import json
from array import array
from dataclasses import dataclass
from typing import Any

CHUNKS = 100
DIMENSIONS = 1536
API_KEY = "sk-bench-0123456789abcdef0123456789abcdef"

CHAT_PATH = "/v1/chat/completions"
EMBEDDINGS_PATH = "/v1/embeddings"
COUNTER = b"#00000000#"  # in a body: another number each time
MANY = 64
TRICKLE = "trickle"  # a model whose name ends so is answered chunk by chunk

_WORDS = "The quick brown fox jumps over the lazy dog and then rests in the shade of an old tree. "


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request: `marks` are bytes that every right answer holds, `events` how many `data:` lines."""

    name: str
    path: str
    body: bytes
    marks: tuple[bytes, ...]
    events: int = 0

    @property
    def is_stream(self) -> bool:
        return self.events > 0

    def encode(self, port: int) -> bytes:
        """Return the whole HTTP request, as the official clients send it apart from their telemetry headers."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {API_KEY}\r\nUser-Agent: bench\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chat_body(model: str, **more: Any) -> bytes:
    messages = [
        {"role": "system", "content": "You are a helpful assistant. Answer shortly and to the point."},
        {"role": "user", "content": _WORDS * 2 + "What is the capital of France?"},
    ]
    return _compact({"model": model, "messages": messages, "temperature": 0.7, "max_tokens": 256, **more})


def _long_body(model: str) -> bytes:
    """Return a conversation of some 400 KB: 400 messages of about a kilobyte, no two alike."""
    roles = ("user", "assistant")
    turns = [
        {"role": roles[number % 2], "content": f"Part {number}. " + f"{_WORDS}{number * 7919} " * 11}
        for number in range(400)
    ]
    return _compact({"model": model, "messages": [*turns, {"role": "user", "content": "Go on."}], "max_tokens": 256})


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    fixed = {"id": "chatcmpl-bench0123456789", "object": "chat.completion.chunk", "created": 1_700_000_000}
    return b"data: " + _compact({**fixed, "model": "canned", "choices": choices, **more}) + b"\n\n"


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])


def stream_events(*, with_usage: bool) -> list[bytes]:
    """Return the events of one stream: CHUNKS chunks (role first, finish last), the usage if asked, [DONE]."""
    words = [_delta({"content": f"word{number} "}) for number in range(CHUNKS - 2)]
    events = [_delta({"role": "assistant", "content": ""}), *words, _delta({}, "stop")]
    if with_usage:
        events.append(_chunk([], usage=_usage(42, CHUNKS)))
    return [*events, b"data: [DONE]\n\n"]


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def completion() -> bytes:
    """Return a chat completion of moderate length."""
    message = {"role": "assistant", "content": _WORDS * 3, "refusal": None}
    return _compact(
        {
            "id": "chatcmpl-bench0123456789",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "canned",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _usage(42, 60),
            "system_fingerprint": "fp_bench",
        }
    )


def embedding(*, as_base64: bool, count: int = 1) -> bytes:
    """Return embeddings of DIMENSIONS floats, all the same, as JSON text or as base64 of little-endian float32."""
    floats = [round(((number * 7919) % 2003 - 1001) / 40_000, 10) for number in range(DIMENSIONS)]
    vector: Any = base64.b64encode(array("f", floats).tobytes()).decode() if as_base64 else floats
    items = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    return _compact({"object": "list", "data": items, "model": "canned", "usage": usage})


def models() -> bytes:
    """Return the answer of GET /v1/models."""
    card = {"id": "canned", "object": "model", "created": 1_700_000_000, "owned_by": "bench"}
    return _compact({"object": "list", "data": [card]})


CHAT = Request("chat", CHAT_PATH, _chat_body("small"), (b'"choices"', b'"usage"'))
LONG_CHAT = Request("long chat", CHAT_PATH, _long_body("small"), (b'"choices"', b'"usage"'))
STREAM = Request("stream", CHAT_PATH, _chat_body("small", stream=True), (b'"role":"assistant"',), CHUNKS + 1)
TRICKLED = Request("trickled", CHAT_PATH, _chat_body(TRICKLE, stream=True), (b'"role":"assistant"',), CHUNKS + 1)
EMBEDDING = Request(
    "embedding", EMBEDDINGS_PATH, _compact({"model": "embedding", "input": _WORDS}), (b'"embedding"', b'"usage"')
)
COUNTED_EMBEDDING = Request(
    "embedding",
    EMBEDDINGS_PATH,
    _compact({"model": "embedding", "input": _WORDS + COUNTER.decode()}),
    (b'"embedding"', b'"usage"'),
)
MANY_EMBEDDINGS = Request(
    "embedding",
    EMBEDDINGS_PATH,
    _compact(
        {"model": "embedding", "input": [f"{_WORDS} {number}" for number in range(MANY)], "encoding_format": "base64"}
    ),
    (b'"index":%d,' % (MANY - 1), b'"usage"'),
)
REQUESTS = (CHAT, STREAM, TRICKLED, EMBEDDING)
