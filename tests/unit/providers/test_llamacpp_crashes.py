"""A request that ends model processes is given up on, wherever it would be sent next."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.errors import InvalidRequest, LocalModelUnavailable, UpstreamUnavailable
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


async def test_a_process_that_ends_within_a_stream_counts(tmp_path: Path) -> None:
    crashes = Crashes(FakeClock())
    errors: list[type[Exception]] = []
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        provider = make_provider(tmp_path, crashes)
        upstream.otherwise = Cut(Chat(), 3)
        for _ in range(3):
            with pytest.raises((UpstreamUnavailable, InvalidRequest)) as caught:
                async with await provider.send(make_exchange(model="tiny", body=DEADLY, stream=True)) as reply:
                    async for _block in reply:
                        pass
            errors.append(type(caught.value))
        await provider.close()

    assert errors == [UpstreamUnavailable, UpstreamUnavailable, InvalidRequest]


async def test_a_request_that_waited_ended_no_process(tmp_path: Path) -> None:
    crashes = Crashes(FakeClock())
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        upstream.otherwise = Dying(tmp_path / "tiny.work", at_work=False)
        provider = make_provider(tmp_path, crashes)
        for _ in range(4):
            with pytest.raises(LocalModelUnavailable):
                await provider.send(make_exchange(model="tiny", body=DEADLY))
        await provider.close()

    crashes.check(DEADLY)


async def test_a_process_that_was_not_there_did_not_end_by_a_request(tmp_path: Path) -> None:
    crashes = Crashes(FakeClock())
    missing = make_provider(tmp_path, crashes, "nobody")
    async with ScriptedUpstream(socket_path=tmp_path / "tiny") as upstream:
        upstream.otherwise = Dying(tmp_path / "tiny.work")
        restarting = make_provider(tmp_path, crashes, trouble="its process ended and is being restarted.")
        for provider, name in ((missing, "nobody"), (restarting, "tiny")) * 3:
            with pytest.raises(LocalModelUnavailable):
                await provider.send(make_exchange(model=name, body=DEADLY))
        await missing.close()
        await restarting.close()

    crashes.check(DEADLY)


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
