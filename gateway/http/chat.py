"""POST /v1/chat/completions and the legacy /v1/completions."""

from __future__ import annotations

from aiohttp import web

from gateway.call import Caller
from gateway.dispatch import ChatDispatcher
from gateway.http.answers import Answers
from gateway.http.body import read_call
from gateway.wire import check_chat, check_completion


class ChatRoutes:
    def __init__(self, dispatcher: ChatDispatcher, answers: Answers) -> None:
        self._dispatcher = dispatcher
        self._answers = answers

    async def chat(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        call = await read_call(request, caller, "chat/completions", check_chat)
        async with await self._dispatcher.chat(call) as reply:
            return await self._answers.send(request, call, reply)

    async def complete(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        call = await read_call(request, caller, "completions", check_completion)
        async with await self._dispatcher.chat(call) as reply:
            return await self._answers.send(request, call, reply)
