"""GET /metrics after requests: right figures under bounded labels."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.app import RunningGateway
from tests.support.upstream import Chat, Cut, Delayed, Gate, Held, ScriptedUpstream, Status

CHAT_PATH = "/v1/chat/completions"
IN_FLIGHT = ("gateway_in_flight_requests",)


async def test_requests_count_with_duration_overhead_upstream_and_tokens(gateway: RunningGateway) -> None:
    for _ in range(3):
        await gateway.chat()
    await gateway.chat(messages=[])

    figures = await gateway.figures()

    assert figures["gateway_requests_total", CHAT_PATH, "200", "small"] == 3
    assert figures["gateway_requests_total", CHAT_PATH, "400", "other"] == 1
    assert figures["gateway_request_duration_seconds_count", CHAT_PATH] == 4
    assert figures["gateway_overhead_duration_seconds_count", CHAT_PATH] == 3
    assert figures["gateway_upstream_duration_seconds_count", "up0/model"] == 3
    assert figures["gateway_attempts_total", "ok", "up0/model"] == 3
    assert figures["gateway_tokens_total", "prompt", "small"] == 27
    assert figures["gateway_tokens_total", "completion", "small"] == 36
    duration = figures["gateway_request_duration_seconds_sum", CHAT_PATH]
    assert duration >= figures["gateway_upstream_duration_seconds_sum", "up0/model"] > 0
    assert duration >= figures["gateway_overhead_duration_seconds_sum", CHAT_PATH] > 0


async def test_a_stream_counts_its_first_event_and_its_tokens(gateway: RunningGateway) -> None:
    await gateway.chat(stream=True)

    figures = await gateway.figures()

    assert figures["gateway_first_event_seconds_count", "small"] == 1
    assert figures["gateway_tokens_total", "completion", "small"] == 12


async def test_embeddings_count_their_tokens(gateway: RunningGateway) -> None:
    await gateway.post("embeddings", {"model": "embedding", "input": ["one two", "three"]})

    figures = await gateway.figures()

    assert figures["gateway_tokens_total", "embedding", "prompt"] == 3


async def test_the_upstreams_time_is_not_ours(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Delayed(Chat(), gate), Held(Chat(), gate, before=2))
    plain, stream = asyncio.create_task(gateway.chat()), asyncio.create_task(gateway.chat(stream=True))
    await gate.reached(2)
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, gate.open)

    await asyncio.gather(plain, stream)
    figures = await gateway.figures()

    assert figures["gateway_request_duration_seconds_sum", CHAT_PATH] > 0.6
    assert figures["gateway_overhead_duration_seconds_sum", CHAT_PATH] < 0.2


async def test_a_stream_that_broke_is_no_success(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(Cut(Chat(), 3))

    await gateway.chat(stream=True)
    figures = await gateway.figures()

    assert figures["gateway_attempts_total", "up0/model", "upstream_stream_interrupted"] == 1
    assert ("gateway_attempts_total", "ok", "up0/model") not in figures


async def test_a_caller_that_left_counts_as_499_and_spoils_no_figure(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Delayed(Chat(), gate))
    asking = asyncio.create_task(gateway.chat())
    await gate.reached()

    asking.cancel()
    await upstream.closed_by_client()
    figures = await gateway.figures()

    assert figures["gateway_requests_total", CHAT_PATH, "499", "small"] == 1
    assert figures["gateway_attempts_total", "cancelled", "up0/model"] == 1
    assert 0 <= figures["gateway_upstream_duration_seconds_sum", "up0/model"] < 20
    assert 0 <= figures["gateway_overhead_duration_seconds_sum", CHAT_PATH] < 20


async def test_what_is_in_flight_is_counted_and_comes_back(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(*[Delayed(Chat(), gate)] * 3)
    asking = [asyncio.create_task(gateway.chat(stream=bool(number))) for number in range(3)]
    await gate.reached(3)

    during = await gateway.figures()
    gate.open()
    await asyncio.gather(*asking)
    after = await gateway.figures()

    assert during[IN_FLIGHT] == 4  # the page itself is one
    assert after[IN_FLIGHT] == 1


@pytest.mark.parametrize(
    ("model", "count"), [("random-{}", 1000), ("up0/random-{}", 300), ("up1/{}", 300), ("x" * 300 + "{}", 300)]
)
async def test_a_thousand_names_of_models_make_no_thousand_series(
    gateway: RunningGateway, model: str, count: int
) -> None:
    await gateway.chat(model=model.format("first"))
    await gateway.figures()  # whose own series are on the next page
    before = set(await gateway.figures())

    for start in range(0, count, 50):
        await asyncio.gather(*(gateway.chat(model=model.format(number)) for number in range(start, start + 50)))
    after = set(await gateway.figures())

    assert after == before


async def test_paths_methods_and_upstream_codes_make_no_series_of_their_own(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.otherwise = lambda request: Status(400, code=f"code-{request.index}")
    await gateway.figures()
    before = set(await gateway.figures())

    for number in range(30):
        await gateway.ask("GET", f"/{number}")
        await gateway.ask("GET", f"/v1/models/{number}")
        await gateway.chat()
    after = set(await gateway.figures())

    assert len(after - before) < 30
    assert ("gateway_attempts_total", "up0/model", "upstream_rejected") in after
