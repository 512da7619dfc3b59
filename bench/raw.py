"""The baseline of every ratio: `python -m bench.raw --upstream http://127.0.0.1:9000/v1 --port 9001`.

Plain, ordinary, good aiohttp code that parses and dumps the JSON with orjson and does nothing else: no keys, no
checks, no errors, no metrics, no log. It must stay so; what makes it faster or slower moves every bound.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import aiohttp
import orjson
from aiohttp import web

from bench.canned import TRICKLE
from bench.loop import run, until_terminated


class Proxy:
    """Sends each POST below /v1 on to the upstream with its model replaced."""

    def __init__(self, session: aiohttp.ClientSession, upstream: str) -> None:
        self._session = session
        self._upstream = upstream.rstrip("/")
        self._headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}

    async def relay(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        body["model"] = "canned-trickle" if body["model"] == TRICKLE else "canned"
        url = self._upstream + request.path.removeprefix("/v1")
        async with self._session.post(url, data=orjson.dumps(body), headers=self._headers) as reply:
            if body.get("stream"):
                return await self._relay_stream(request, reply)
            answer = orjson.loads(await reply.read())
            return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def _relay_stream(self, request: web.Request, reply: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for block in reply.content.iter_any():
            await response.write(block)
        await response.write_eof()
        return response


async def alive(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def serve(upstream: str, port: int) -> None:
    """Answer on 127.0.0.1:`port` until SIGTERM."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        proxy = Proxy(session, upstream)
        application = web.Application()
        application.router.add_get("/healthz", alive)
        application.router.add_post("/v1/chat/completions", proxy.relay)
        application.router.add_post("/v1/embeddings", proxy.relay)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await until_terminated()
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.raw", description=__doc__)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    run(serve(options.upstream, options.port))


if __name__ == "__main__":
    main()
