"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.cache import FIELD, HEADER, read_wishes
from gateway.call import Caller
from gateway.dispatch import EmbeddingDispatcher
from gateway.http.answers import Answers
from gateway.http.body import read_call
from gateway.wire import answer_pieces, check_embedding

_OWN = frozenset({FIELD})
_AT_ONCE = 128  # pieces, two a vector, that are written before others have their turn: two milliseconds, in digits


class EmbeddingRoutes:
    def __init__(self, dispatcher: EmbeddingDispatcher, answers: Answers) -> None:
        self._dispatcher = dispatcher
        self._answers = answers

    async def embed(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        call = await read_call(request, caller, "embeddings", check_embedding, own=_OWN)
        lines = request.headers.getall(HEADER, ())
        wishes = read_wishes(", ".join(lines) if lines else None, call.body.pop(FIELD, None))
        embedded = await self._dispatcher.embed(call, wishes)
        encoding = call.body.get("encoding_format")
        pieces = []
        for piece in answer_pieces(embedded.vectors, model=embedded.model, usage=embedded.usage, encoding=encoding):
            pieces.append(piece)
            if len(pieces) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return self._answers.send_body(b"".join(pieces), call.record)
