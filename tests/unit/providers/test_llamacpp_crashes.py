"""A request that ends model processes is given up on, wherever it would be sent next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, InvalidRequest, LocalModelUnavailable
from gateway.providers import Crashes, LlamaCpp, LocalModel
from gateway.providers.llamacpp_crashes import FORGOTTEN_SECONDS
from tests.support.deployments import FakeClock
from tests.support.exchanges import make_exchange
from tests.support.upstream import Answer, Chat, Cut, Reset, ScriptedUpstream, SeenRequest

DEADLY = {"model": "small", "messages": [{"role": "user", "content": "deadly"}]}
HARMLESS = {"model": "small", "messages": [{"role": "user", "content": "harmless"}]}


class Dying:
    """A front whose process ends while it works on a request, or while the request waits."""

    def __init__(self, work: Path, *, at_work: bool = True) -> None:
        self._work = work
        self._at_work = at_work

    def answer(self, request: SeenRequest) -> Answer:
        self._work.write_text(request.headers["x-gateway-request"] if self._at_work else "another")
        return Reset().answer(request)


class DyingInCompany:
    """A front whose process ends while it works on a request and on another; one that is asked alone is answered."""

    def __init__(self, work: Path, *, deadly: bool) -> None:
        self._work = work
        self._deadly = deadly

    def answer(self, request: SeenRequest) -> Answer:
        own, is_alone = request.headers["x-gateway-request"], "x-gateway-alone" in request.headers
        if is_alone and not self._deadly:
            return Chat().answer(request)
        self._work.write_text(own if is_alone else f"{own}\nanother")
        return Reset().answer(request)


class DyingWithinStream:
    """A front whose process ends while it works on a stream, or on something else beside it."""

    def __init__(self, work: Path, *, at_work: bool = True) -> None:
        self._work = work
        self._at_work = at_work

    def answer(self, request: SeenRequest) -> Answer:
        self._work.write_text(request.headers["x-gateway-request"] if self._at_work else "another")
        return Cut(Chat(), 3).answer(request)


async def outcome(provider: LlamaCpp, body: dict[str, Any], caller: str = "", *, stream: bool = False) -> str | None:
    """Return the code of the error that the request ended with, None for an answer."""
    exchange = make_exchange(model="tiny", body=body, stream=stream)
    exchange.caller = caller
    try:
        async with await provider.send(exchange) as reply:
            async for _ in reply if stream else _nothing():
                pass
    except GatewayError as error:
        return error.code
    return None


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def make_provider(directory: Path, crashes: Crashes, name: str = "tiny", trouble: str = "") -> LlamaCpp:
    return LlamaCpp("local", {name: LocalModel(directory / name, lambda: trouble)}, crashes)


async def test_three_ended_processes_are_enough_whichever_models_they_ran(tmp_path: Path) -> None:
    crashes = Crashes(FakeClock())
    codes = []
    async with (
        ScriptedUpstream(socket_path=tmp_path / "one") as one,
        ScriptedUpstream(socket_path=tmp_path / "two") as two,
    ):
        one.otherwise, two.otherwise = Dying(tmp_path / "one.work"), Dying(tmp_path / "two.work")
        providers = [make_provider(tmp_path, crashes, name) for name in ("one", "two", "one", "two")]
        for provider, name in zip(providers, ("one", "two", "one", "two"), strict=True):
            with pytest.raises((LocalModelUnavailable, InvalidRequest)) as caught:
                await provider.send(make_exchange(model=name, body=DEADLY))
            codes.append(caught.value.code)
            await provider.close()

    assert codes == ["local_model_unavailable", "local_model_unavailable", "request_ends_model", "request_ends_model"]
    assert len(one.requests) + len(two.requests) == 3


async def test_other_requests_are_answered_and_the_deadly_one_is_after_ten_minutes(tmp_path: Path) -> None:
    clock = FakeClock()
    crashes = Crashes(clock)
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        provider = make_provider(tmp_path, crashes)
        upstream.script(*[Dying(tmp_path / "tiny.work")] * 3)
        for _ in range(3):
            with pytest.raises((LocalModelUnavailable, InvalidRequest)):
                await provider.send(make_exchange(model="tiny", body=DEADLY))

        async with await provider.send(make_exchange(model="tiny", body=HARMLESS)) as reply:
            other = reply.body
        clock.now += FORGOTTEN_SECONDS + 1
        async with await provider.send(make_exchange(model="tiny", body=DEADLY)) as reply:
            later = reply.body
        await provider.close()

    assert b"chat.completion" in other
    assert b"chat.completion" in later


@pytest.mark.parametrize(("at_work", "last"), [(True, "request_ends_model"), (False, "upstream_stream_interrupted")])
async def test_a_process_that_ends_within_a_stream_counts_if_it_was_at_work_on_it(
    tmp_path: Path, at_work: bool, last: str
) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        provider = make_provider(tmp_path, Crashes(FakeClock()))
        upstream.otherwise = DyingWithinStream(tmp_path / "tiny.work", at_work=at_work)

        codes = [await outcome(provider, DEADLY, stream=True) for _ in range(3)]
        await provider.close()

    assert codes == ["upstream_stream_interrupted", "upstream_stream_interrupted", last]


async def test_a_bystander_is_asked_alone_and_then_innocent(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        provider = make_provider(tmp_path, Crashes(FakeClock()))
        upstream.otherwise = DyingInCompany(tmp_path / "tiny.work", deadly=False)

        codes = [await outcome(provider, HARMLESS) for _ in range(6)]
        await provider.close()

    gone = "local_model_unavailable"
    assert codes == [gone, gone, None, gone, gone, None]
    assert ["x-gateway-alone" in request.headers for request in upstream.requests] == [False, False, True] * 2


async def test_what_ends_processes_in_company_is_found_out_alone(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        provider = make_provider(tmp_path, Crashes(FakeClock()))
        upstream.otherwise = DyingInCompany(tmp_path / "tiny.work", deadly=True)

        codes = [await outcome(provider, DEADLY) for _ in range(4)]
        await provider.close()

    assert codes[2:] == ["request_ends_model"] * 2
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("body", "caller"), [({**DEADLY, "temperature": 0.5}, "mallory"), (DEADLY, "alice"), ({**DEADLY, "stop": "a"}, "")]
)
async def test_neither_another_request_with_the_same_words_nor_another_caller_pays(
    tmp_path: Path, body: dict[str, Any], caller: str
) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        provider = make_provider(tmp_path, Crashes(FakeClock()))
        upstream.script(*[Dying(tmp_path / "tiny.work")] * 3)

        codes = [await outcome(provider, DEADLY, "mallory") for _ in range(3)]
        other = await outcome(provider, body, caller)
        await provider.close()

    assert codes[-1] == "request_ends_model"
    assert other is None


async def test_a_request_that_ranks_objects_is_known_again(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        provider = make_provider(tmp_path, Crashes(FakeClock()))
        upstream.otherwise = Dying(tmp_path / "tiny.work")

        codes = []
        for _ in range(4):
            body = {"model": "r", "query": "q", "documents": [{"text": "a"}]}
            with pytest.raises((LocalModelUnavailable, InvalidRequest)) as caught:
                await provider.send(make_exchange(endpoint="rerank", model="tiny", body=body))
            codes.append(caught.value.code)
        await provider.close()

    assert codes[2:] == ["request_ends_model"] * 2
    assert len(upstream.requests) == 3


async def test_a_request_that_waited_ended_no_process(tmp_path: Path) -> None:
    crashes = Crashes(FakeClock())
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        upstream.otherwise = Dying(tmp_path / "tiny.work", at_work=False)
        provider = make_provider(tmp_path, crashes)
        for _ in range(4):
            with pytest.raises(LocalModelUnavailable):
                await provider.send(make_exchange(model="tiny", body=DEADLY))
        upstream.otherwise = Chat()
        after = await outcome(provider, DEADLY)
        await provider.close()

    assert after is None


async def test_a_process_that_was_not_there_did_not_end_by_a_request(tmp_path: Path) -> None:
    crashes = Crashes(FakeClock())
    missing = make_provider(tmp_path, crashes, "nobody")
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        upstream.otherwise = Dying(tmp_path / "tiny.work")
        restarting = make_provider(tmp_path, crashes, trouble="its process ended and is being restarted.")
        for provider, name in ((missing, "nobody"), (restarting, "tiny")) * 3:
            with pytest.raises(LocalModelUnavailable):
                await provider.send(make_exchange(model=name, body=DEADLY))
        upstream.otherwise = Chat()
        after = await outcome(restarting, DEADLY)
        await missing.close()
        await restarting.close()

    assert after is None


@pytest.mark.parametrize(("state", "connections"), [("idle", 1), ("loading", 0)])
async def test_a_model_that_is_not_loaded_leaves_a_call_to_others_and_is_woken_once(
    tmp_path: Path, state: str, connections: int
) -> None:
    seen = asyncio.Queue[None]()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(None)
        writer.close()

    server = await asyncio.start_unix_server(accept, tmp_path / "tiny")
    provider = LlamaCpp("local", {"tiny": LocalModel(tmp_path / "tiny", lambda: "", state=lambda: state)})
    exchange = make_exchange(model="tiny")
    exchange.most_waiting = 4

    with pytest.raises(LocalModelUnavailable) as caught:
        await provider.send(exchange)
    if connections:
        await asyncio.wait_for(seen.get(), 2)
    server.close()
    await provider.close()

    assert caught.value.code == "local_model_not_loaded"
    assert caught.value.failover
    assert seen.empty()


async def test_a_call_that_may_not_go_elsewhere_waits_for_the_load(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "tiny"):
        provider = LlamaCpp("local", {"tiny": LocalModel(tmp_path / "tiny", lambda: "", state=lambda: "idle")})

        async with await provider.send(make_exchange(model="tiny")) as reply:
            body = reply.body
        await provider.close()

    assert b"chat.completion" in body
