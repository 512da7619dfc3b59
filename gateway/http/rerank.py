"""POST /v1/rerank."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.call import Caller
from gateway.dispatch import RerankDispatcher
from gateway.http.answers import Answers
from gateway.http.body import read_call
from gateway.wire import check_rerank


class RerankRoutes:
    def __init__(self, dispatcher: RerankDispatcher, answers: Answers) -> None:
        self._dispatcher = dispatcher
        self._answers = answers

    async def rank(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        call = await read_call(request, caller, "rerank", _check)
        async with await self._dispatcher.rank(call) as reply:
            return await self._answers.send(request, call, reply)


def _check(body: dict[str, Any]) -> None:
    check_rerank(body)
    for name in ("stream", "stream_options"):  # there are no streams of this; the fields mean nothing here
        body.pop(name, None)
