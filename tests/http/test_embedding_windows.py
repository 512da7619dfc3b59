"""Inputs over a model's window: cut, or taken in parts, as the alias says; the caller is told."""

from __future__ import annotations

import asyncio
from struct import unpack

import pytest

from gateway.wire import pool
from tests.support.app import running
from tests.support.embedding import MEMORY, asked, embed, expected, make_caching, vectors_of
from tests.support.upstream import Embeddings, ScriptedUpstream

LONG = " ".join(f"word{number}" for number in range(100))


def windowed(upstream: ScriptedUpstream, truncation: str, window: int = 40, **deployment: object) -> str:
    return make_caching(
        upstream,
        model={"truncation": truncation},
        deployment={"model": "text-embedding-3-small", "context_window": window, **deployment},
    )


async def test_the_end_of_a_long_input_is_cut_and_the_caller_is_told(upstream: ScriptedUpstream) -> None:
    async with running(windowed(upstream, "end")) as gateway:
        answer = await embed(gateway, ["short", LONG])
        again = await embed(gateway, [LONG])
        figures = await gateway.figures()

    short, cut = asked(upstream)[0]
    assert short == "short"
    assert LONG.startswith(cut)
    assert 40 < len(cut) < len(LONG)
    assert vectors_of(answer) == expected("short", cut)
    assert int(answer.headers["x-gateway-truncated"]) > 100
    assert again.headers["x-gateway-truncated"] == answer.headers["x-gateway-truncated"]
    assert again.headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"
    assert figures["gateway_truncated_requests_total", "embedding"] == 2


async def test_the_mean_of_the_parts_of_a_long_input_stands_for_it(upstream: ScriptedUpstream) -> None:
    async with running(windowed(upstream, "mean_pool", 36)) as gateway:
        answer = await embed(gateway, [LONG, "short"])

    *parts, short = asked(upstream)[0]
    assert "".join(parts) == LONG
    assert short == "short"
    vector, other = vectors_of(answer)
    assert other == expected("short")[0]
    assert sum(number * number for number in unpack("<8f", vector)) == pytest.approx(1.0)
    assert vector != pool(expected(*parts), [1] * len(parts))  # the last part is shorter and counts less


async def test_parts_of_one_input_may_be_asked_in_several_requests(upstream: ScriptedUpstream) -> None:
    async with running(windowed(upstream, "mean_pool")) as gateway:
        whole = await embed(gateway, [LONG])
    async with running(windowed(upstream, "mean_pool", max_batch_inputs=1)) as gateway:
        apart = await embed(gateway, [LONG])

    assert vectors_of(apart) == vectors_of(whole)


async def test_what_fits_is_sent_as_it_is(upstream: ScriptedUpstream) -> None:
    async with running(windowed(upstream, "end")) as gateway:
        answer = await embed(gateway, ["word " * 20, [1] * 40])

    assert answer.status == 400  # texts and token ids do not mix
    async with running(windowed(upstream, "end")) as gateway:
        answer = await embed(gateway, ["word " * 20])

    assert asked(upstream) == [["word " * 20]]
    assert "x-gateway-truncated" not in answer.headers


@pytest.mark.parametrize("embeddings", [MEMORY, {"cache": None}], ids=["remembered", "not remembered"])
async def test_what_a_local_model_cuts_by_itself_is_told_as_well(
    upstream: ScriptedUpstream, embeddings: dict[str, object]
) -> None:
    told = {"prompt_tokens": 43, "total_tokens": 43, "truncated_tokens": 110}
    upstream.script(Embeddings(usage=told), Embeddings(usage={**told, "truncated_tokens": 110}))
    config = make_caching(upstream, deployment={"context_window": 40}, embeddings=embeddings)
    async with running(config) as gateway:
        answer = await embed(gateway, ["short", LONG])
        again = await embed(gateway, [LONG])
        short = await embed(gateway, ["short"])

    assert answer.headers["x-gateway-truncated"] == again.headers["x-gateway-truncated"] == "110"
    assert "x-gateway-truncated" not in short.headers


async def test_lists_of_token_ids_are_cut_too(upstream: ScriptedUpstream) -> None:
    async with running(windowed(upstream, "end")) as gateway:
        answer = await embed(gateway, [list(range(50))])

    assert asked(upstream) == [[list(range(40))]]
    assert answer.headers["x-gateway-truncated"] == "10"


@pytest.mark.parametrize("truncation", ["none", None])
async def test_otherwise_the_model_is_left_to_refuse(upstream: ScriptedUpstream, truncation: str | None) -> None:
    config = make_caching(
        upstream,
        model={} if truncation is None else {"truncation": truncation},
        deployment={"model": "text-embedding-3-small", "context_window": 40},
    )
    async with running(config) as gateway:
        await embed(gateway, [LONG])

    assert asked(upstream) == [[LONG]]


async def test_the_tokens_of_one_request_are_counted_where_they_might_be_too_many(upstream: ScriptedUpstream) -> None:
    words = ["word " * 30] * 2 + ["other " * 30]  # 31 tokens each, 150 and 180 bytes
    config = make_caching(
        upstream, deployment={"model": "text-embedding-3-small", "max_batch_tokens": 70}, embeddings={"cache": None}
    )
    async with running(config) as gateway:
        answer = await embed(gateway, words)

    assert sorted(map(len, asked(upstream))) == [1, 2]
    assert vectors_of(answer) == expected(*words)


async def test_other_requests_are_answered_while_a_huge_one_is_counted(upstream: ScriptedUpstream) -> None:
    huge = "Wörter und mehr, 1234 davon; " * 20_000
    config = make_caching(
        upstream,
        model={"truncation": "end"},
        deployment={"model": "text-embedding-3-small", "context_window": 8191},
        embeddings=MEMORY,
    )
    async with running(config) as gateway:
        asking = asyncio.create_task(embed(gateway, [huge]))
        small = await embed(gateway, ["a"])
        answer = await asking

    assert small.status == answer.status == 200
    assert int(answer.headers["x-gateway-truncated"]) > 100_000
