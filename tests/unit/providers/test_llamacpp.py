"""Local models: reached over their sockets, and when they are not, the caller is told why."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from gateway.call import Queued
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    LocalModelUnavailable,
    UpstreamModelMissing,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers import LlamaCpp, LocalModel
from tests.support.contract import assert_stream_obeys_contract, parse_sse
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience
from tests.support.upstream import Behaviour, Body, Chat, Cut, Hang, Reset, ScriptedUpstream, Status


def make_provider(socket: Path, trouble: str = "") -> LlamaCpp:
    return LlamaCpp("local", {"tiny": LocalModel(socket, lambda: trouble, is_embedding=False)})


async def test_a_model_is_asked_over_its_socket(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        provider = make_provider(tmp_path / "s")

        async with await provider.send(make_exchange(model="tiny")) as reply:
            body = reply.body
        await provider.close()

    assert b"chat.completion" in body
    assert upstream.requests[0].path == "/v1/chat/completions"


async def test_a_stream_passes_and_each_request_has_its_own_connection(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        provider = make_provider(tmp_path / "s")

        for _ in range(2):
            async with await provider.send(make_exchange(model="tiny", stream=True)) as reply:
                assert_stream_obeys_contract(parse_sse(b"".join([block async for block in reply])))
        await provider.close()

    assert upstream.connections.opened == 2


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [("it is being loaded.", "it is being loaded."), ("", "its process ended and is being restarted.")],
)
async def test_a_missing_socket_is_told_with_its_reason(tmp_path: Path, trouble: str, reason: str) -> None:
    provider = make_provider(tmp_path / "nobody", trouble)

    with pytest.raises(LocalModelUnavailable) as caught:
        await provider.send(make_exchange(model="tiny"))
    await provider.close()

    assert caught.value.message == f"The local model 'tiny' is not available: {reason}"
    assert caught.value.http_status == 503
    assert caught.value.retry_after == 1.0


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Reset(), LocalModelUnavailable),
        (Cut(Chat(), 0), LocalModelUnavailable),
        (Status(503, message="Loading model"), LocalModelUnavailable),
        (Status(500), UpstreamUnavailable),
        (
            Body(
                b'{"error":{"code":400,"type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}', status=400
            ),
            ContextLengthExceeded,
        ),
    ],
    ids=["crashed", "crashed in the answer", "loading", "failed", "too long"],
)
async def test_what_goes_wrong_in_a_model_process_has_its_class(
    tmp_path: Path, behaviour: Behaviour, kind: type[GatewayError]
) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        upstream.script(behaviour)
        provider = make_provider(tmp_path / "s")

        with pytest.raises(GatewayError) as caught:
            await provider.send(make_exchange(model="tiny"))
        await provider.close()

    assert type(caught.value) is kind
    assert len(upstream.requests) == 1


async def test_a_model_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        upstream.script(Hang())
        provider = make_provider(tmp_path / "s")

        with pytest.raises(UpstreamTimeout):
            await provider.send(make_exchange(model="tiny", patience=make_patience(first_event=SHORT_SECONDS)))
        await provider.close()


@pytest.mark.parametrize(
    ("kind", "code"), [("queue_full", "local_queue_full"), ("queue_timeout", "local_queue_timeout")]
)
async def test_a_queue_that_refuses_is_told_with_its_own_retry_after(tmp_path: Path, kind: str, code: str) -> None:
    refusal = {"error": {"code": 503, "message": "no", "type": kind}}
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        upstream.script(Status(503, refusal, retry_after="94"))
        provider = make_provider(tmp_path / "s")

        with pytest.raises(LocalModelUnavailable) as caught:
            await provider.send(make_exchange(model="tiny"))
        await provider.close()

    assert (caught.value.http_status, caught.value.code, caught.value.retry_after) == (503, code, 94.0)
    assert caught.value.failover


async def test_the_front_is_told_who_asks_and_tells_how_it_waited(tmp_path: Path) -> None:
    waited = {"x-gateway-queue-position": "3", "x-gateway-queue-milliseconds": "1250.5"}
    exchange = make_exchange(model="tiny")
    exchange.caller, exchange.most_waiting = "Zoë & co", 4
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        message = {"role": "assistant", "content": "Hello."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        upstream.script(Status(200, {"object": "chat.completion", "choices": choices}, headers=waited))
        provider = make_provider(tmp_path / "s")

        async with await provider.send(exchange):
            pass
        await provider.close()

    sent = upstream.requests[0].headers
    assert (sent["x-gateway-caller"], sent["x-gateway-max-queue"]) == ("Zo%C3%AB %26 co", "4")
    assert exchange.queued == Queued(3, 1250.5)


async def test_a_model_that_is_not_configured_is_missing(tmp_path: Path) -> None:
    provider = make_provider(tmp_path / "s")

    with pytest.raises(UpstreamModelMissing):
        await provider.send(make_exchange(model="huge"))


@pytest.mark.parametrize(
    ("model", "trouble", "ready"), [("tiny", "", True), ("tiny", "no", False), ("huge", "", False)]
)
async def test_a_model_is_ready_when_it_has_no_trouble(tmp_path: Path, model: str, trouble: str, ready: bool) -> None:
    assert await make_provider(tmp_path / "s", trouble).is_ready(model) is ready


class Place:
    """A front that keeps a request waiting for its turn, and tells so, until it was looked at so many times."""

    def __init__(self, looks: int, told: float | None = None) -> None:
        self.told = told
        self.looks = looks
        self.is_seen = asyncio.Event()

    async def ask(self, request: web.Request) -> web.Response:
        await self.is_seen.wait()
        return web.json_response({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}]})

    async def tell(self, _: web.Request) -> web.Response:
        self.looks -= 1
        if self.looks == 0:
            self.is_seen.set()
        return web.json_response({"seconds": self.told})


@pytest.mark.parametrize(("looks", "told"), [(3, None), (-1, None), (6, 0.0)])
async def test_waiting_for_a_turn_is_not_taken_for_a_model_that_hangs(
    tmp_path: Path, looks: int, told: float | None
) -> None:
    place = Place(looks, told)  # one that begins at each look: the request is asked in pieces
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", place.ask), web.get("/queue/{request}", place.tell)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    provider = LlamaCpp("local", {"tiny": LocalModel(tmp_path / "s", lambda: "", max_wait=1.0)})
    exchange = make_exchange(model="tiny", patience=make_patience(plain_answer=0.2))

    if looks > 0:
        async with await provider.send(exchange) as reply:
            assert b"Hi" in reply.body
    else:  # a front refuses by itself what waited too long; this one never does
        with pytest.raises(LocalModelUnavailable) as caught:
            await provider.send(exchange)
        assert (caught.value.code, caught.value.retry_after) == ("local_queue_timeout", 5.0)
    await provider.close()
    place.is_seen.set()
    await runner.cleanup()


async def test_a_request_that_waits_longer_than_answers_may_take_in_all_is_told_that_it_waited(tmp_path: Path) -> None:
    place = Place(-1)
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", place.ask), web.get("/queue/{request}", place.tell)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    provider = LlamaCpp("local", {"tiny": LocalModel(tmp_path / "s", lambda: "", max_wait=0.5)})

    with pytest.raises(LocalModelUnavailable):
        await provider.send(make_exchange(model="tiny", patience=make_patience(plain_answer=60.0, total=0.4)))
    await provider.close()
    place.is_seen.set()
    await runner.cleanup()


async def test_a_process_that_tells_nothing_is_given_up_as_if_it_had_no_queue(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        upstream.otherwise = Hang()
        provider = LlamaCpp("local", {"tiny": LocalModel(tmp_path / "s", lambda: "", max_wait=60.0)})

        with pytest.raises(UpstreamTimeout, match=f"within {SHORT_SECONDS:g} seconds"):
            await provider.send(make_exchange(model="tiny", patience=make_patience(first_event=SHORT_SECONDS)))
        await provider.close()
