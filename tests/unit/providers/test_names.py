"""A name server that fails or says nothing costs a call at most the cap, and never more than one look-up a host."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.errors import UpstreamUnavailable
from gateway.providers import OpenAIWire
from gateway.providers.names import CappedResolver
from gateway.providers.pool import keep_tcp
from tests.support.exchanges import make_exchange
from tests.support.upstream import ScriptedUpstream

CAP_SECONDS = 0.1


class ScriptedResolver(AbstractResolver):
    """Raises `error`, or answers with 127.0.0.1 once `gate` is open."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.gate = asyncio.Event()
        self.asked: list[str] = []
        self.is_closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if self.error is not None:
            raise self.error
        await self.gate.wait()
        address = ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)
        return [address]

    async def close(self) -> None:
        self.is_closed = True


def make_wire(resolver: ScriptedResolver, port: int = 9) -> OpenAIWire:
    return OpenAIWire(
        "lab", f"http://lab.test:{port}/v1", connect=lambda: keep_tcp(CappedResolver(resolver, CAP_SECONDS))
    )


async def test_a_name_that_is_found_is_connected_to(upstream: ScriptedUpstream) -> None:
    resolver = ScriptedResolver()
    resolver.gate.set()
    wire = make_wire(resolver, upstream.port)

    async with await wire.send(make_exchange()) as reply:
        body = reply.body

    await wire.close()
    assert b"chat.completion" in body
    assert upstream.requests[0].headers["Host"] == f"lab.test:{upstream.port}"


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "unknown"),
        socket.gaierror(socket.EAI_AGAIN, "server failed"),
        OSError("no file descriptors"),
        UnicodeError("label empty or too long"),
        TimeoutError(),
    ],
    ids=str,
)
async def test_a_name_that_is_not_found_is_an_unreachable_upstream(error: Exception) -> None:
    wire = make_wire(ScriptedResolver(error))

    with pytest.raises(UpstreamUnavailable) as caught:
        await wire.send(make_exchange())

    await wire.close()
    assert caught.value.code == "upstream_unreachable"


async def test_a_silent_name_server_costs_no_more_than_the_cap() -> None:
    wire = make_wire(ScriptedResolver())
    before = time.perf_counter()

    with pytest.raises(UpstreamUnavailable) as caught:
        await wire.send(make_exchange())

    assert CAP_SECONDS / 2 < time.perf_counter() - before < 10 * CAP_SECONDS
    assert caught.value.code == "upstream_unreachable"
    await wire.close()


async def test_calls_for_one_host_share_the_look_up_that_runs() -> None:
    inner = ScriptedResolver()
    capped = CappedResolver(inner, CAP_SECONDS)

    first = await asyncio.gather(*(capped.resolve("lab.test") for _ in range(20)), return_exceptions=True)
    second = asyncio.create_task(capped.resolve("lab.test"))
    await asyncio.sleep(0)
    inner.gate.set()

    assert {type(outcome) for outcome in first} == {socket.gaierror}
    assert (await second)[0]["host"] == "127.0.0.1"
    assert inner.asked == ["lab.test"]
    await capped.close()


async def test_a_look_up_that_is_over_is_asked_anew() -> None:
    inner = ScriptedResolver(socket.gaierror(socket.EAI_NONAME, "unknown"))
    capped = CappedResolver(inner, CAP_SECONDS)

    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await capped.resolve("lab.test")

    assert inner.asked == ["lab.test"] * 2
    await capped.close()


async def test_who_leaves_does_not_end_the_look_up_that_others_wait_for() -> None:
    inner = ScriptedResolver()
    capped = CappedResolver(inner, 5.0)
    leaving, staying = (asyncio.create_task(capped.resolve("lab.test")) for _ in range(2))
    await asyncio.sleep(0)

    leaving.cancel()
    inner.gate.set()

    assert (await staying)[0]["host"] == "127.0.0.1"
    assert leaving.cancelled()
    await capped.close()


async def test_closing_leaves_no_look_up_behind() -> None:
    before = asyncio.all_tasks()
    inner = ScriptedResolver()
    wire = make_wire(inner)
    with pytest.raises(UpstreamUnavailable):
        await wire.send(make_exchange())

    await wire.close()
    await asyncio.sleep(0)

    assert inner.is_closed
    assert asyncio.all_tasks() == before
