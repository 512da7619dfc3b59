"""What requests share that wait for the same inputs, and what each has for itself: its errors, its headers, its figures."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.app import RunningGateway, running
from tests.support.embedding import asked, embed, expected, make_caching, vectors_of
from tests.support.upstream import Correct, Embeddings, Gate, Held, ScriptedUpstream, Status

GATHERING = {"cache": {"disk": None}, "coalesce_ms": 200}
ONE_BY_ONE = {"cache": {"disk": None}, "parallel": 1}


async def leave_after(gateway: RunningGateway, given: Any) -> asyncio.StreamWriter:
    """Send a request on a connection of its own, for a caller that leaves before the answer."""
    content = json.dumps({"model": "embedding", "input": given}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(head + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return writer


async def until_in_flight(gateway: RunningGateway, count: int) -> None:
    async with asyncio.timeout(20):
        while (await gateway.figures())["gateway_in_flight_requests",] != count + 1:
            await asyncio.sleep(0.01)


async def test_whoever_joined_one_input_is_not_refused_for_another(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    refused = Status(400, param="input")
    upstream.script(Held(refused, gate), refused, Correct())
    async with running(make_caching(upstream)) as gateway:
        poisoned = asyncio.create_task(embed(gateway, ["poison", "a"]))
        await gate.reached()
        joined = asyncio.create_task(embed(gateway, ["a"]))
        await until_in_flight(gateway, 2)
        gate.open()
        statuses = [(await each).status for each in (poisoned, joined)]

    assert statuses == [400, 200]
    assert vectors_of(await joined) == expected("a")
    assert asked(upstream) == [["poison", "a"], ["poison"], ["a"]]


async def test_what_nobody_waits_for_any_more_is_not_asked_for(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Embeddings(), gate))
    async with running(make_caching(upstream, embeddings=ONE_BY_ONE, deployment={"max_batch_inputs": 1})) as gateway:
        leader = await leave_after(gateway, ["a", "b", "c", "d"])
        await gate.reached()
        follower = asyncio.create_task(embed(gateway, ["a", "d"]))
        await until_in_flight(gateway, 2)
        leader.transport.abort()
        await until_in_flight(gateway, 1)
        gate.open()
        answer = await follower

    assert vectors_of(answer) == expected("a", "d")
    assert asked(upstream) == [["a"], ["d"]]


async def test_the_attempts_of_a_caller_that_left_are_told_of_one_that_stayed(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Embeddings(), gate))
    async with running(make_caching(upstream)) as gateway:
        leader = await leave_after(gateway, ["a"])
        await gate.reached()
        follower = asyncio.create_task(embed(gateway, ["a"]))
        await until_in_flight(gateway, 2)
        leader.transport.abort()
        await until_in_flight(gateway, 1)
        gate.open()
        answer = await follower
        figures = await gateway.figures()

    assert answer.headers["x-gateway-attempts"] == "1"
    assert figures["gateway_attempts_total", "ok", "up0/model"] == 1


@pytest.mark.parametrize("outcome", [Embeddings(), Status(500)])
async def test_who_answered_is_told_to_everyone_and_counted_once(upstream: ScriptedUpstream, outcome: Any) -> None:
    gate = Gate()
    upstream.script(Held(outcome, gate), outcome)
    async with running(make_caching(upstream, upstream)) as gateway:
        asking = [asyncio.create_task(embed(gateway, ["a"])) for _ in range(3)]
        await gate.reached()
        await until_in_flight(gateway, 3)
        gate.open()
        answers = await asyncio.gather(*asking)
        figures = await gateway.figures()

    attempts = str(len(upstream.requests))
    assert [answer.headers["x-gateway-attempts"] for answer in answers] == [attempts] * 3
    assert len({answer.headers["x-gateway-deployment"] for answer in answers}) == 1
    assert {answer.headers.get("x-should-retry") for answer in answers} == {None if attempts == "1" else "false"}
    counted = [value for name, value in figures.items() if name[0] == "gateway_attempts_total"]
    assert sum(counted) == len(upstream.requests)


async def test_all_tokens_of_gathered_requests_are_counted(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream, embeddings=GATHERING)) as gateway:
        await asyncio.gather(*(embed(gateway, [f"{text} and more"]) for text in "abc"))
        await embed(gateway, ["a and more"])
        figures = await gateway.figures()

    assert figures["gateway_tokens_total", "embedding", "prompt"] == 12
    assert figures["gateway_tokens_total", "cached", "embedding"] == 3


async def test_no_input_goes_where_its_own_alias_does_not_lead(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(500), Status(500))
    async with ScriptedUpstream() as elsewhere:
        config = json.loads(make_caching(upstream, elsewhere, embeddings=GATHERING))
        config["models"]["private"] = {"deployments": ["up0/model"]}
        async with running(json.dumps(config)) as gateway:
            asking = [embed(gateway, ["public"]), embed(gateway, ["secret"], model="private")]
            statuses = [answer.status for answer in await asyncio.gather(*asking)]

        assert statuses == [200, 502]
        assert asked(elsewhere) == [["public"]]


async def test_what_was_left_out_for_all_is_told_to_all(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, param="odd", code="unsupported_parameter"))
    config = make_caching(upstream, embeddings=GATHERING, deployment={"drop_params": True})
    async with running(config) as gateway:
        answers = await asyncio.gather(*(embed(gateway, [text], odd=1) for text in "ab"))

    assert [answer.headers["x-gateway-dropped-params"] for answer in answers] == ["odd", "odd"]


async def test_where_nothing_is_remembered_only_if_cached_finds_nothing(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream, embeddings={"cache": None})) as gateway:
        answer = await embed(gateway, "a", cache="only-if-cached")

    assert answer.status == 504
    assert upstream.requests == []


async def test_an_error_tells_what_was_remembered(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        await embed(gateway, ["a"])
        missed = await embed(gateway, ["a", "b"], cache="only-if-cached")
        upstream.script(Status(400, param="input"))
        failed = await embed(gateway, ["a", "b", "b"])

    assert missed.headers["x-gateway-cache"] == "hits=1 misses=1 memory=1"
    assert failed.headers["x-gateway-cache"] == "hits=1 misses=2 memory=1"
    assert [(line["cache_hits"], line["cache_misses"]) for line in gateway.lines()] == [(0, 1), (1, 1), (1, 2)]


async def test_wishes_may_come_in_several_lines(upstream: ScriptedUpstream) -> None:
    headers = [("Content-Type", "application/json"), ("x-gateway-cache", "no-cache"), ("x-gateway-cache", "no-store")]
    content = json.dumps({"model": "embedding", "input": "a"})
    async with running(make_caching(upstream)) as gateway:
        await gateway.ask("POST", "/v1/embeddings", data=content, headers=headers)
        answer = await embed(gateway, "a")

    assert answer.headers["x-gateway-cache"] == "hits=0 misses=1"


@pytest.mark.parametrize(("first", "second", "hits"), [("no-store, ttl=1000", "ttl=60", 0), ("ttl=60", "ttl=1000", 1)])
async def test_an_input_is_kept_as_long_as_anybody_wants_who_keeps_it(
    upstream: ScriptedUpstream, first: str, second: str, hits: int
) -> None:
    moment = 1_800_000_000.0
    gate = Gate()
    upstream.script(Held(Embeddings(), gate))
    async with running(make_caching(upstream), now=lambda: moment) as gateway:
        asking = [asyncio.create_task(embed(gateway, ["a"], cache=first))]
        await gate.reached()
        asking.append(asyncio.create_task(embed(gateway, ["a"], cache=second)))
        await until_in_flight(gateway, 2)
        gate.open()
        await asyncio.gather(*asking)
        moment += 100
        answer = await embed(gateway, ["a"])

    assert answer.headers["x-gateway-cache"].startswith(f"hits={hits} ")


async def test_the_field_cache_still_steers_where_documents_are_ranked(gateway: RunningGateway) -> None:
    answer = await gateway.post("rerank", {"model": "small", "query": "a", "documents": ["a"], "cache": {}})

    assert answer.status == 400
    assert answer.error["param"] == "cache"
