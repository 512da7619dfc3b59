"""An answer that is at hand before anybody asks an engine, or after its body was read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson

from gateway.worker.engine import Answer

JSON = "application/json"


class Told:
    """A whole body with its status."""

    def __init__(self, body: bytes, status: int = 200, content_type: str = JSON) -> None:
        self._body = body
        self.status = status
        self.content_type = content_type

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body

    async def close(self) -> None:
        return None


def refuse(status: int, code: int | str, kind: str, message: str, param: str | None = None) -> Told:
    """Return an error in the wire of llama.cpp's server."""
    error = {"code": code, "message": message, "type": kind}
    return Told(orjson.dumps({"error": error if param is None else {**error, "param": param}}), status)


async def body_of(answer: Answer) -> bytes:
    """Return the whole body of an answer, which is closed then."""
    try:
        return b"".join([piece async for piece in answer])
    finally:
        await answer.close()
