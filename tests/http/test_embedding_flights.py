"""Inputs that are on their way are not asked for again, whoever leaves; small requests may be gathered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.app import RunningGateway, running
from tests.support.embedding import asked, embed, expected, make_caching, vectors_of
from tests.support.upstream import Correct, Embeddings, Gate, Hang, Held, ScriptedUpstream, Status

GATHERING = {"cache": {"disk": None}, "coalesce_ms": 200}


def request_bytes(text: str) -> bytes:
    content = json.dumps({"model": "embedding", "input": text}).encode()
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + f"Content-Length: {len(content)}\r\n\r\n".encode() + content


async def test_g12_a_thousand_of_the_same_are_asked_for_once(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Embeddings(), gate))
    async with running(make_caching(upstream)) as gateway:
        asking = [asyncio.create_task(embed(gateway, "a")) for _ in range(1000)]
        await gate.reached()
        await until_in_flight(gateway, 1000)
        gate.open()
        answers = await asyncio.gather(*asking)

    assert asked(upstream) == ["a"]
    assert all(vectors_of(answer) == expected("a") for answer in answers)
    assert sum("joined=1" in answer.headers["x-gateway-cache"] for answer in answers) == 999


async def test_the_first_may_leave(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Embeddings(), gate))
    async with running(make_caching(upstream)) as gateway:
        _, leader = await asyncio.open_connection("127.0.0.1", gateway.port)
        leader.write(request_bytes("a"))
        await gate.reached()
        follower = asyncio.create_task(embed(gateway, ["a"]))
        await until_in_flight(gateway, 2)
        leader.transport.abort()
        await until_in_flight(gateway, 1)
        gate.open()
        answer = await follower

    assert vectors_of(answer) == expected("a")
    assert len(upstream.requests) == 1


async def test_when_all_have_left_the_upstream_is_free(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang(), Correct())
    async with running(make_caching(upstream)) as gateway:
        writers = []
        for count in (1, 2):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request_bytes("a"))
            writers.append(writer)
            await until_in_flight(gateway, count)
        await upstream.request()

        for writer in writers:
            writer.transport.abort()

        await upstream.closed_by_client(within_seconds=1.0)
        assert vectors_of(await embed(gateway, "a")) == expected("a")


async def test_an_error_is_told_to_those_who_wait_and_not_to_the_next(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Status(400, param="input"), gate))
    async with running(make_caching(upstream)) as gateway:
        asking = [asyncio.create_task(embed(gateway, "a")) for _ in range(3)]
        await until_in_flight(gateway, 3)
        gate.open()
        statuses = [(await answer).status for answer in asking]
        later = await embed(gateway, "a")

    assert statuses == [400, 400, 400]
    assert later.status == 200


async def test_part_of_a_request_may_be_on_its_way_for_another(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Embeddings(), gate))
    async with running(make_caching(upstream)) as gateway:
        first = asyncio.create_task(embed(gateway, ["a", "b"]))
        await gate.reached()
        second = asyncio.create_task(embed(gateway, ["b", "c", "a"]))
        await upstream.request(1)
        gate.open()
        answers = await asyncio.gather(first, second)

    assert [vectors_of(answer) for answer in answers] == [expected("a", "b"), expected("b", "c", "a")]
    assert asked(upstream) == [["a", "b"], ["c"]]


async def test_small_requests_are_gathered(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream, embeddings=GATHERING)) as gateway:
        answers = await asyncio.gather(*(embed(gateway, [text]) for text in "abc"))

    assert [vectors_of(answer) for answer in answers] == [expected(text) for text in "abc"]
    assert [sorted(inputs) for inputs in asked(upstream)] == [["a", "b", "c"]]


@pytest.mark.parametrize("field", ["dimensions", "user"])
async def test_only_requests_for_the_same_are_gathered(upstream: ScriptedUpstream, field: str) -> None:
    async with running(make_caching(upstream, embeddings=GATHERING)) as gateway:
        values: list[Any] = [4, 5] if field == "dimensions" else ["one", "two"]
        await asyncio.gather(*(embed(gateway, [f"{value}"], **{field: value}) for value in values))

    assert len(upstream.requests) == 2


async def test_callers_apart_are_not_gathered(upstream: ScriptedUpstream) -> None:
    embeddings = {"cache": {"disk": None, "scope": "caller"}, "coalesce_ms": 200}
    keys = [{"name": name, "key": f"sk-{name}-0123456789"} for name in ("one", "two")]
    async with running(make_caching(upstream, embeddings=embeddings, keys=keys)) as gateway:
        await asyncio.gather(*(embed(gateway, [key["name"]], key=key["key"]) for key in keys))

    assert len(upstream.requests) == 2


async def test_a_refusal_of_what_was_gathered_is_told_to_its_own_request_alone(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, param="input"), Status(400, param="input"), Correct())
    async with running(make_caching(upstream, embeddings=GATHERING)) as gateway:
        answers = await asyncio.gather(*(embed(gateway, [text]) for text in "ab"))

    assert sorted(answer.status for answer in answers) == [200, 400]
    assert [len(inputs) for inputs in asked(upstream)] == [2, 1, 1]


class TestSplitting:
    async def test_a_large_request_is_asked_in_parts(self, upstream: ScriptedUpstream) -> None:
        texts = [f"text {number}" for number in range(10)]
        async with running(make_caching(upstream, deployment={"max_batch_inputs": 4})) as gateway:
            answer = await embed(gateway, texts)

        assert vectors_of(answer) == expected(*texts)
        assert sorted(map(len, asked(upstream))) == [2, 4, 4]
        assert answer.json["usage"]["prompt_tokens"] == 20
        assert answer.headers["x-gateway-attempts"] == "3"

    async def test_no_more_parts_at_once_than_allowed(self, upstream: ScriptedUpstream) -> None:
        gate = Gate()
        upstream.script(*[Held(Embeddings(), gate)] * 9)
        embeddings = {"cache": None, "parallel": 2}
        config = make_caching(upstream, embeddings=embeddings, deployment={"max_batch_inputs": 1})
        async with running(config) as gateway:
            asking = [asyncio.create_task(embed(gateway, list("abc"))) for _ in range(3)]
            await gate.reached()
            await until_in_flight(gateway, 3)
            await upstream.request(1)
            most = len(upstream.requests)
            gate.open()
            answers = await asyncio.gather(*asking)

        assert most == 2
        assert all(vectors_of(answer) == expected("a", "b", "c") for answer in answers)

    async def test_what_other_parts_brought_is_remembered_though_one_failed(self, upstream: ScriptedUpstream) -> None:
        upstream.script(Correct(), Status(400, param="input"))
        embeddings = {"cache": {"disk": None}, "parallel": 1}
        config = make_caching(upstream, embeddings=embeddings, deployment={"max_batch_inputs": 1})
        async with running(config) as gateway:
            failed = await embed(gateway, ["a", "b"])
            answer = await embed(gateway, ["a", "b"])

        assert failed.status == 400
        assert answer.headers["x-gateway-cache"] == "hits=1 misses=1 memory=1"


async def until_in_flight(gateway: RunningGateway, count: int) -> None:
    """Return when the gateway answers so many requests, beside the one that asks."""
    async with asyncio.timeout(20):
        while (await gateway.figures())["gateway_in_flight_requests",] != count + 1:
            await asyncio.sleep(0.01)
