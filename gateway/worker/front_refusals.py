"""What the front of a model answers by itself when it refuses a request, in llama.cpp's words for errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web

LARGEST_BODY_BYTES = 32 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """A request that the front answers itself, in llama.cpp's words for errors."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        error = {"code": self.status, "message": str(self), "type": self.kind}
        return web.Response(
            body=orjson.dumps({"error": error}),
            status=self.status,
            headers={"Content-Type": "application/json", **self.headers},
        )


@web.middleware
async def refusing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep every answer in llama.cpp's words."""
    return await answer_or_refuse(request, handler)


async def answer_or_refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with `handler`, and what it refuses in llama.cpp's words."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return refusal.response()
    except web.HTTPRequestEntityTooLarge:
        limit = LARGEST_BODY_BYTES >> 20
        return Refusal(413, "invalid_request_error", f"The body has more than {limit} MiB.").response()
    except web.HTTPException as error:
        kind = "not_found_error" if error.status == 404 else "invalid_request_error"
        return Refusal(error.status, kind, error.reason).response()
