"""POST /v1/images/generations."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.call import Caller
from gateway.dispatch import ImageDispatcher
from gateway.http.answers import Answers
from gateway.http.body import read_call
from gateway.wire import check_image

UNNAMED = "image"  # the class that is meant where a request names no model, as OpenAI lets it


class ImageRoutes:
    def __init__(self, dispatcher: ImageDispatcher, answers: Answers) -> None:
        self._dispatcher = dispatcher
        self._answers = answers

    async def generate(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        call = await read_call(request, caller, "images/generations", _check)
        async with await self._dispatcher.generate(call) as reply:
            return await self._answers.send(request, call, reply)


def _check(body: dict[str, Any]) -> None:
    check_image(body)
    if body.get("model") is None:
        body["model"] = UNNAMED
