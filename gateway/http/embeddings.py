"""POST /v1/embeddings."""

from __future__ import annotations

from aiohttp import web

from gateway.call import Caller
from gateway.dispatch import EmbeddingDispatcher
from gateway.http.answers import Answers
from gateway.http.body import read_call
from gateway.wire import check_embedding


class EmbeddingRoutes:
    def __init__(self, dispatcher: EmbeddingDispatcher, answers: Answers) -> None:
        self._dispatcher = dispatcher
        self._answers = answers

    async def embed(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        call = await read_call(request, caller, "embeddings", check_embedding)
        async with await self._dispatcher.embed(call) as reply:
            return await self._answers.send(request, call, reply)
