"""The canned upstream with two wires more, Anthropic's and Gemini's: `python -m bench.canned_wires --port 9000`.

The answers say the same as those of `canned.py`; how they travel is `upstream.py`. Only what litellm is measured with
is here: plain answers of both, and Anthropic's stream with all its events together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench import canned
from bench.loop import run
from bench.upstream import STREAM_END, STREAM_HEAD, Answers, Connection, chunk, plain

ANTHROPIC_MODEL = "claude-sonnet-4-5"
GEMINI_MODEL = "gemini-2.5-flash"
GEMINI_ROOT = "/v1beta"

_TEXT = json.loads(canned.completion())["choices"][0]["message"]["content"]
_WORDS = canned.CHUNKS - 2  # as many pieces of text as OpenAI's stream has


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _message(**more: Any) -> dict[str, Any]:
    return {
        "id": "msg_bench0123456789",
        "type": "message",
        "role": "assistant",
        "model": ANTHROPIC_MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        **more,
    }


def lanes() -> dict[str, canned.Request]:
    """Return the request of each row; the models are named like the providers. Their cost is measured by their kind."""
    asked = {
        "litellm lane, anthropic": (canned.CHAT, b"anthropic"),
        "litellm lane, gemini": (canned.CHAT, b"gemini"),
        "litellm lane, anthropic stream": (canned.STREAM, b"anthropic"),
    }
    return {
        title: replace(request, body=request.body.replace(b'"model":"small"', b'"model":"%b"' % model))
        for title, (request, model) in asked.items()
    }


def anthropic_message() -> bytes:
    """Return a message of the same length as the chat completion."""
    usage = {"input_tokens": 42, "output_tokens": 60}
    return _compact(_message(content=[{"type": "text", "text": _TEXT}], stop_reason="end_turn", usage=usage))


def gemini_answer() -> bytes:
    """Return an answer of one candidate, of the same length as the chat completion."""
    candidate = {
        "content": {"role": "model", "parts": [{"text": _TEXT}]},
        "finishReason": "STOP",
        "index": 0,
    }
    usage = {"promptTokenCount": 42, "candidatesTokenCount": 60, "totalTokenCount": 102}
    return _compact(
        {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": GEMINI_MODEL,
            "responseId": "bench0123456789",
        }
    )


def anthropic_events() -> list[bytes]:
    """Return the events of one stream: as many pieces of text as OpenAI's has, between start and end."""
    words = [
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"word{number} "})
        for number in range(_WORDS)
    ]
    return [
        _event("message_start", message=_message(usage={"input_tokens": 42, "output_tokens": 1})),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *words,
        _event("content_block_stop", index=0),
        _event(
            "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": _WORDS}
        ),
        _event("message_stop"),
    ]


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _compact({"type": kind, **fields}))


class WireAnswers(Answers):
    """The answers of every wire, by the path that is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.message = plain(anthropic_message())
        self.message_stream = STREAM_HEAD + chunk(b"".join(anthropic_events())) + STREAM_END
        self.candidate = plain(gemini_answer())

    def choose(self, head: bytes, body: bytes) -> bytes | Sequence[bytes]:
        target = head[: head.find(b" HTTP/")]
        if target.startswith(b"POST ") and target.endswith(b"/v1/messages"):
            is_stream = b'"stream":true' in body or b'"stream": true' in body
            return self.message_stream if is_stream else self.message
        if target.startswith(b"POST ") and b":generateContent" in target:
            return self.candidate
        return super().choose(head, body)


async def serve(port: int) -> None:
    """Answer on 127.0.0.1:`port` until the task is cancelled."""
    answers = WireAnswers()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answers), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.canned_wires", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    run(serve(parser.parse_args(arguments).port))


if __name__ == "__main__":
    main()
