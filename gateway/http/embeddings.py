"""POST /v1/embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from gateway.cache import FIELD, HEADER, read_wishes
from gateway.call import Caller
from gateway.dispatch import EmbeddingDispatcher
from gateway.http.answers import Answers
from gateway.http.body import read_call
from gateway.wire import Written, check_embedding, write_answer

_OWN = frozenset({FIELD})
_AT_ONCE = 8  # blocks that are written before others have their turn
_DIGITS_AT_ONCE = 3  # likewise: two milliseconds
_SHORT = 64 * 1024  # bytes of an answer that is sent in one piece


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
        written = write_answer(embedded.vectors, model=embedded.model, usage=embedded.usage, encoding=encoding)
        if written.length is not None and written.length > _SHORT:
            return await self._answers.send_blocks(request, call.record, _in_turns(written), written.length)
        return self._answers.send_body(b"".join([block async for block in _in_turns(written)]), call.record)


async def _in_turns(written: Written) -> AsyncIterator[bytes]:
    """Yield the blocks of an answer, with turns of others between them."""
    at_once = _DIGITS_AT_ONCE if written.length is None else _AT_ONCE
    for number, block in enumerate(written.blocks, 1):
        yield block
        if number % at_once == 0:
            await asyncio.sleep(0)
