"""A canned OpenAI upstream over HTTP/1.1 keep-alive: `python -m bench.upstream --port 9000`.

It knows just enough of HTTP to answer well-behaved clients as cheaply as Python can; every answer is made at start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from typing import cast

from bench import canned
from bench.loop import run

STEPS_SECONDS = (0.001, 0.002)  # between the chunks of a trickled stream, in turn

_HEAD = b"HTTP/1.1 200 OK\r\nServer: canned\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nx-request-id: req_canned\r\n"
_END = b"\r\n\r\n"


def plain(body: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a whole answer with a JSON body."""
    head = _HEAD.replace(b"200 OK", status)
    return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def chunk(body: bytes) -> bytes:
    """Return one chunk of the chunked transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(body), body)


STREAM_HEAD = _HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


class Answers:
    """Every answer there is, ready to be written."""

    def __init__(self) -> None:
        self.completion = plain(canned.completion())
        self.embedding = {flag: plain(canned.embedding(as_base64=flag)) for flag in (False, True)}
        self.models = plain(canned.models())
        self.missing = plain(b'{"error":{"message":"no such route","type":"invalid_request_error"}}', b"404 Not Found")
        events = {flag: canned.stream_events(with_usage=flag) for flag in (False, True)}
        self.together = {flag: STREAM_HEAD + chunk(b"".join(all_)) + STREAM_END for flag, all_ in events.items()}
        self.trickled = {
            flag: [STREAM_HEAD + chunk(all_[0]), *map(chunk, all_[1:-1]), chunk(all_[-1]) + STREAM_END]
            for flag, all_ in events.items()
        }

    def choose(self, head: bytes, body: bytes) -> bytes | Sequence[bytes]:
        """Return the answer to one request, as pieces when they are to be written one by one."""
        target = head[: head.find(b" HTTP/")]
        if target.startswith(b"POST ") and target.endswith(b"/chat/completions"):
            return self._chat(body)
        if target.startswith(b"POST ") and target.endswith(b"/embeddings"):
            return self._embedding(body)
        if target.startswith(b"GET ") and target.endswith(b"/models"):
            return self.models
        return self.missing

    def _embedding(self, body: bytes) -> bytes:
        as_base64 = _says(body, b"encoding_format", b'"base64"')
        if b'"input":[' not in body:
            return self.embedding[as_base64]
        count = len(json.loads(body)["input"])  # rare: what is measured asks for them once
        return plain(canned.embedding(as_base64=as_base64, count=count))

    def _chat(self, body: bytes) -> bytes | Sequence[bytes]:
        if not _says(body, b"stream", b"true"):
            return self.completion
        with_usage = _says(body, b"include_usage", b"true")
        if canned.TRICKLE.encode() + b'"' in body:
            return self.trickled[with_usage]
        return self.together[with_usage]


def _says(body: bytes, name: bytes, value: bytes) -> bool:
    return b'"%b":%b' % (name, value) in body or b'"%b": %b' % (name, value) in body


def split(buffer: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return (head, body, rest) of the first whole request in `buffer`, None when more must arrive.

    Raises ValueError for a body without a Content-Length.
    """
    end = buffer.find(_END)
    if end < 0:
        return None
    head = buffer[:end]
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        if b"\r\ntransfer-encoding:" in lower:
            raise ValueError("the canned upstream wants a Content-Length")
        return head, b"", buffer[end + 4 :]
    length = int(lower[at + 17 :].split(b"\r\n", 1)[0])
    whole = end + 4 + length
    if len(buffer) < whole:
        return None
    return head, buffer[end + 4 : whole], buffer[whole:]


class Connection(asyncio.Protocol):
    """One connection; requests are answered in order, one at a time, as clients without pipelining send them."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        try:
            while (request := split(self._buffer)) is not None:
                head, body, self._buffer = request
                self._send(self._transport, self._answers.choose(head, body))
        except ValueError:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def _send(self, transport: asyncio.Transport, answer: bytes | Sequence[bytes]) -> None:
        if isinstance(answer, bytes):
            transport.write(answer)
        else:
            self._trickle(answer, 0)

    def _trickle(self, pieces: Sequence[bytes], position: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(pieces[position])
        if position + 1 < len(pieces):
            step = STEPS_SECONDS[position % len(STEPS_SECONDS)]
            asyncio.get_running_loop().call_later(step, self._trickle, pieces, position + 1)


async def serve(port: int) -> None:
    """Answer on 127.0.0.1:`port` until the task is cancelled."""
    answers = Answers()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answers), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    run(serve(parser.parse_args(arguments).port))


if __name__ == "__main__":
    main()
