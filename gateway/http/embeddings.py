"""POST /v1/embeddings."""

from __future__ import annotations

from aiohttp import web

from gateway.call import Caller
from gateway.dispatch import EmbeddingDispatcher
from gateway.http.answers import answer
from gateway.http.body import read_call
from gateway.http.drain import Drain
from gateway.wire import check_embedding


class EmbeddingRoutes:
    def __init__(self, dispatcher: EmbeddingDispatcher, drain: Drain) -> None:
        self._dispatcher = dispatcher
        self._drain = drain

    async def embed(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        call = await read_call(request, caller, "embeddings", check_embedding)
        async with await self._dispatcher.embed(call) as reply:
            return await answer(request, call, reply, self._drain)
