"""A model that is being loaded, or makes room for another, is waited for; nobody takes that for a process that hangs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.errors import LocalModelUnavailable, UpstreamTimeout
from gateway.providers import LlamaCpp, LocalModel
from tests.support.exchanges import make_exchange, make_patience

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
MOMENT = 0.2  # seconds: what is given to a model that is loaded


class House:
    """A socket on which connections wait until `move_in`; `state` is what the parent tells of the model."""

    def __init__(self, directory: Path, max_wait: float) -> None:
        self.state = "loading"
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        path = directory / "m.sock"
        self.work = path.with_suffix(".work")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._runner: web.AppRunner | None = None
        model = LocalModel(path, lambda: "", max_wait=max_wait, state=lambda: self.state)
        self.provider = LlamaCpp("local", {"tiny": model})

    def ask(self) -> asyncio.Task[bytes]:
        return asyncio.create_task(self._ask())

    async def _ask(self) -> bytes:
        exchange = make_exchange(model="tiny", patience=make_patience(plain_answer=MOMENT))
        async with await self.provider.send(exchange) as reply:
            return reply.body

    async def move_in(self) -> None:
        application = web.Application()
        application.add_routes([web.post("/v1/chat/completions", self._answer)])
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()

    def take_no_more(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["x-gateway-request"])
        await self.may_answer.wait()
        return web.json_response(ANSWER)

    async def until_asked(self) -> None:
        async with asyncio.timeout(5):
            while not self.asked:
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        self.may_answer.set()
        await self.provider.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._listener.close()


@asynccontextmanager
async def house(directory: Path, max_wait: float = 30.0) -> AsyncIterator[House]:
    made = House(directory, max_wait)
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize("state", ["idle", "loading"])
async def test_a_model_whose_loading_takes_longer_than_its_answers_may_is_waited_for(
    tmp_path: Path, state: str
) -> None:
    async with house(tmp_path) as place:
        place.state = state
        place.may_answer.set()
        asking = place.ask()

        waited, _ = await asyncio.wait([asking], timeout=4 * MOMENT)
        await place.move_in()
        place.state = "ready"

        assert not waited
        assert b"Hi" in await asking


async def test_a_model_that_is_not_loaded_within_the_wait_is_told_as_that(tmp_path: Path) -> None:
    async with house(tmp_path, max_wait=3 * MOMENT) as place:
        with pytest.raises(LocalModelUnavailable) as caught:
            await place.ask()

    assert caught.value.message == "The local model 'tiny' is still being loaded."
    assert (caught.value.http_status, caught.value.retry_after) == (503, 5.0)
    assert caught.value.failover


async def test_a_process_that_says_it_is_ready_and_takes_nobody_is_given_up_soon(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        place.state = "ready"

        with pytest.raises(UpstreamTimeout):
            await place.ask()


async def test_what_a_leaving_process_has_begun_is_waited_for_however_long_it_has_been_there(tmp_path: Path) -> None:
    async with house(tmp_path, max_wait=5 * MOMENT) as place:
        place.state = "ready"
        await place.move_in()
        asking = place.ask()
        await place.until_asked()
        place.work.write_text(place.asked[0], encoding="utf-8")
        place.take_no_more()
        place.state = "loading"

        given_up, _ = await asyncio.wait([asking], timeout=5.5 * MOMENT)
        place.may_answer.set()

        assert not given_up
        assert b"Hi" in await asking


async def test_one_for_whom_a_leaving_process_has_no_ear_is_told_when_it_has_waited_too_long(tmp_path: Path) -> None:
    async with house(tmp_path, max_wait=3 * MOMENT) as place:
        place.state = "ready"
        await place.move_in()
        place.take_no_more()
        place.state = "loading"

        with pytest.raises(LocalModelUnavailable):
            await place.ask()

        assert place.asked == []
