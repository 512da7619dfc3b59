"""The other baseline of the litellm lane: `python -m bench.lanes --upstream http://127.0.0.1:9000 --port 9001`.

An ordinary aiohttp handler that hands the caller's fields to `litellm.acompletion` and dumps what it returns: what
serving another wire costs without the gateway. litellm is as it comes, apart from what keeps it off the network.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from bench.canned_wires import ANTHROPIC_MODEL, GEMINI_MODEL, GEMINI_ROOT
from bench.loop import run, until_terminated


class Bare:
    """Answers chat completions by asking litellm; `library` is the imported litellm."""

    def __init__(self, library: Any, upstream: str) -> None:
        self._library = library
        self._lanes: Mapping[str, Mapping[str, str]] = {
            "anthropic": {"model": f"anthropic/{ANTHROPIC_MODEL}", "api_base": upstream},
            "gemini": {"model": f"gemini/{GEMINI_MODEL}", "api_base": upstream + GEMINI_ROOT},
        }

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        asked = {**body, **self._lanes[body["model"]], "api_key": "x"}
        answer = await self._library.acompletion(**asked)
        if body.get("stream"):
            return await self._relay(request, answer)
        return web.Response(body=answer.model_dump_json().encode(), content_type="application/json")

    async def _relay(self, request: web.Request, pieces: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        # OpenAI's streams open with the role alone; litellm's put it into the first piece of text.
        role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        opening = {"object": "chat.completion.chunk", "choices": [role]}
        await response.write(b"data: " + orjson.dumps(opening) + b"\n\n")
        async for piece in pieces:
            await response.write(b"data: " + piece.model_dump_json(exclude_none=True).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


async def alive(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def serve(upstream: str, port: int) -> None:
    """Answer on 127.0.0.1:`port` until SIGTERM."""
    os.environ.update({"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"})
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    application = web.Application()
    application.router.add_get("/healthz", alive)
    application.router.add_post("/v1/chat/completions", Bare(litellm, upstream.rstrip("/")).complete)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await until_terminated()
    await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.lanes", description=__doc__)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    run(serve(options.upstream, options.port))


if __name__ == "__main__":
    main()
