"""Reads requests from a connection as they really are, and keeps them for the test to look at."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

READ_LIMIT_BYTES = 1024 * 1024  # of one head or one chunk's size line; bodies have no limit


class MalformedRequest(Exception):
    """The client sent something that is not an HTTP/1 request."""


@dataclass(frozen=True)
class SeenRequest:
    """One request as it came over the wire.

    `index` counts from 0 over the whole upstream, `connection` too; `turn` is its place on its connection, from 0.
    `path` is raw (percent-encoding kept), without the query. `at` is in seconds of the event loop's clock.
    """

    index: int
    connection: int
    turn: int
    method: str
    path: str
    query: str
    version: str
    headers: CIMultiDictProxy[str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        """Return the body as JSON; raises ValueError if it is none."""
        return json.loads(self.body)

    @property
    def fields(self) -> dict[str, Any]:
        """Return the JSON object of the body, empty if it is something else."""
        try:
            content = self.json
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def model(self) -> str:
        return str(self.fields.get("model", ""))

    @property
    def stream(self) -> bool:
        return self.fields.get("stream") is True

    @property
    def include_usage(self) -> bool:
        options = self.fields.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def reused(self) -> bool:
        """Tell whether an earlier request was answered on the same connection."""
        return self.turn > 0

    @property
    def wants_close(self) -> bool:
        connection = self.headers.get("Connection", "").lower()
        return "close" in connection or (self.version == "HTTP/1.0" and "keep-alive" not in connection)


@dataclass(frozen=True)
class Head:
    """The request line and the headers."""

    method: str
    target: str
    version: str
    headers: CIMultiDictProxy[str]


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Return the next request's head, None when the client closed between requests or in the middle of a head."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise MalformedRequest("a head without an end") from error
    lines = raw.decode("utf-8", "surrogateescape").lstrip("\r\n").split("\r\n")
    match lines[0].split(" "):
        case [method, target, ("HTTP/1.1" | "HTTP/1.0") as version]:
            return Head(method, target, version, _parse_headers(lines[1:]))
        case _:
            raise MalformedRequest(f"request line {lines[0]!r}")


def _parse_headers(lines: list[str]) -> CIMultiDictProxy[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise MalformedRequest(f"header line {line!r}")
        headers.add(name, value.strip(" \t"))
    return CIMultiDictProxy(headers)


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """Return the body, dechunked; raises IncompleteReadError when the client leaves in the middle of it."""
    if "Transfer-Encoding" in head.headers:
        if head.headers["Transfer-Encoding"].lower() != "chunked" or "Content-Length" in head.headers:
            raise MalformedRequest("an ambiguous body length")
        return await _read_chunks(reader)
    lengths = set(head.headers.getall("Content-Length", ["0"]))
    length = lengths.pop()
    if lengths or not length.isdecimal():
        raise MalformedRequest("a bad Content-Length")
    return await reader.readexactly(int(length))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line.split(b";")[0].strip(), 16)
        except ValueError as error:
            raise MalformedRequest(f"chunk size {line!r}") from error
        if size == 0:
            break
        chunks.append(await reader.readexactly(size))
        if await reader.readexactly(2) != b"\r\n":
            raise MalformedRequest("a chunk longer than its size")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers say nothing that a test asked for yet
    return b"".join(chunks)
