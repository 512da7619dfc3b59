"""No vector stands for another: not of another request, nor of another size, nor of an input that was cut elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.app import RunningGateway, running
from tests.support.embedding import MEMORY, asked, embed, expected, make_caching, vectors_of
from tests.support.upstream import Embeddings, ScriptedUpstream

LONG = " ".join(f"word{number}" for number in range(100))


def two_aliases(upstream: ScriptedUpstream, first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return a configuration with the aliases `first` and `second` of one upstream's model."""
    config = json.loads(make_caching(upstream))
    config["models"] = {"first": first, "second": second}
    return json.dumps(config)


def deployed(**written: Any) -> dict[str, Any]:
    return {"deployments": [{"provider": "up0", "model": "text-embedding-3-small", **written}]}


async def test_without_a_cache_gathered_requests_get_their_own_vectors(upstream: ScriptedUpstream) -> None:
    embeddings = {"cache": None, "coalesce_ms": 200}
    async with running(make_caching(upstream, embeddings=embeddings)) as gateway:
        answers = await asyncio.gather(*(embed(gateway, [text, text * 2]) for text in "abc"))

    assert [vectors_of(answer) for answer in answers] == [expected(text, text * 2) for text in "abc"]
    assert len(upstream.requests) == 1


async def test_an_alias_that_expects_a_size_shares_nothing_with_one_that_does_not(upstream: ScriptedUpstream) -> None:
    config = two_aliases(upstream, deployed(dimensions=4), deployed())
    async with running(config) as gateway:
        answers = [await embed(gateway, "a", model=alias) for alias in ("first", "second", "first")]

    sizes = [len(vectors_of(answer)[0]) // 4 for answer in answers]
    assert sizes == [4, 8, 4]
    assert answers[2].headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"


@pytest.mark.parametrize("settings", [{"dimensions": 4}, {"input_type": "query"}])
async def test_null_leaves_a_field_to_the_settings_in_the_key_too(
    upstream: ScriptedUpstream, settings: dict[str, Any]
) -> None:
    config = two_aliases(upstream, deployed(settings=settings), deployed())
    nothing = dict.fromkeys(settings)
    async with running(config) as gateway:
        await embed(gateway, "a", model="first", **nothing)
        other = await embed(gateway, "a", model="second")
        same = await embed(gateway, "a", model="first")

    assert vectors_of(other) == expected("a")
    assert other.headers["x-gateway-cache"] == "hits=0 misses=1"
    assert same.headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"


async def test_what_is_cut_for_the_smallest_window_is_not_given_to_others(upstream: ScriptedUpstream) -> None:
    model = {"provider": "up0", "model": "text-embedding-3-small"}
    wide = {"truncation": "end", "deployments": [{**model, "context_window": 8000}]}
    narrow = {"truncation": "end", "deployments": [*wide["deployments"], {**model, "context_window": 40}]}
    async with running(two_aliases(upstream, narrow, wide)) as gateway:
        cut = await embed(gateway, LONG, model="first")
        whole = await embed(gateway, LONG, model="second")

    assert "x-gateway-truncated" in cut.headers
    assert vectors_of(whole) == expected(LONG)


class TestSizes:
    async def test_what_is_remembered_of_a_former_size_is_asked_for_again(self, upstream: ScriptedUpstream) -> None:
        upstream.script(Embeddings())
        async with running(make_caching(upstream)) as gateway:
            await embed(gateway, ["a"])
            upstream.script(Embeddings(size=6), Embeddings(size=6))
            answer = await embed(gateway, ["a", "b"])
            again = await embed(gateway, ["a", "b"])

        assert vectors_of(answer) == vectors_of(again) == expected("a", "b", size=6)
        assert answer.headers["x-gateway-cache"] == "hits=0 misses=2 memory=1"
        assert asked(upstream) == [["a"], ["b"], ["a"]]

    async def test_of_what_is_remembered_the_newest_tells_the_size(self, upstream: ScriptedUpstream) -> None:
        moment = 1_800_000_000.0
        upstream.script(Embeddings(), Embeddings(size=6), Embeddings(size=6))
        async with running(make_caching(upstream), now=lambda: moment) as gateway:
            await embed(gateway, ["a"])
            moment += 10
            await embed(gateway, ["b"])
            answer = await embed(gateway, ["a", "b"])

        assert vectors_of(answer) == expected("a", "b", size=6)
        assert asked(upstream) == [["a"], ["b"], ["a"]]

    @pytest.mark.parametrize("embeddings", [MEMORY, {"cache": None}])
    async def test_parts_of_several_sizes_are_no_answer(
        self, upstream: ScriptedUpstream, embeddings: dict[str, Any]
    ) -> None:
        upstream.script(Embeddings(), Embeddings(size=6))
        config = make_caching(upstream, embeddings=embeddings, deployment={"max_batch_inputs": 1})
        async with running(config) as gateway:
            answer = await embed(gateway, ["a", "b"])

        assert answer.status == 502
        assert answer.error["code"] == "upstream_bad_response"

    async def test_parts_of_one_input_of_several_sizes_have_no_mean(self, upstream: ScriptedUpstream) -> None:
        upstream.script(Embeddings(), Embeddings(size=6))
        route = deployed(context_window=40, max_batch_inputs=1)
        async with running(two_aliases(upstream, {"truncation": "mean_pool", **route}, route)) as gateway:
            answer = await embed(gateway, [LONG], model="first")

        assert answer.status == 502
        assert answer.error["code"] == "upstream_bad_response"


@pytest.mark.parametrize("told", [2**33, 2**40])
async def test_an_upstream_that_counts_wildly_is_remembered_on_disk_too(upstream: ScriptedUpstream, told: int) -> None:
    upstream.script(Embeddings(usage={"prompt_tokens": told, "total_tokens": told}))
    embeddings = {"cache": {"memory": None}}
    async with running(make_caching(upstream, embeddings=embeddings)) as gateway:
        first = await embed(gateway, "a")
        await until_on_disk(gateway)
        second = await embed(gateway, "a")

    assert vectors_of(first) == vectors_of(second) == expected("a")
    assert second.headers["x-gateway-cache"] == "hits=1 misses=0 disk=1"


ONE_TEXT = st.text(alphabet="abc", min_size=1, max_size=2)
ONE_LIST = st.lists(st.integers(0, 2), min_size=1, max_size=2)
ASKED = st.tuples(
    st.one_of(ONE_TEXT, ONE_LIST, *(st.lists(one, min_size=1, max_size=7) for one in (ONE_TEXT, ONE_LIST))),
    st.sampled_from(["float", "base64"]),
    st.sampled_from([None, "no-cache", "no-store", "ttl=5"]),
    st.sampled_from([8, 4]),
)


@given(
    rounds=st.lists(st.lists(ASKED, min_size=1, max_size=5), min_size=1, max_size=3),
    cache=st.sampled_from([None, {"disk": None}, {"memory": None}, {}]),
    coalesce=st.sampled_from([0, 3]),
    most=st.sampled_from([None, 1, 2]),
)
@settings(max_examples=30, deadline=None)
def test_requests_at_one_time_get_what_an_upstream_would_give_each(
    rounds: list[list[tuple[Any, str, str | None, int]]], cache: dict[str, Any] | None, coalesce: int, most: int | None
) -> None:
    async def ask_all() -> None:
        async with ScriptedUpstream() as upstream:
            config = make_caching(
                upstream,
                embeddings={"cache": cache, "coalesce_ms": coalesce, "parallel": 2},
                deployment={} if most is None else {"max_batch_inputs": most},
            )
            async with running(config) as gateway:
                for requests in rounds:
                    answers = await asyncio.gather(
                        *(
                            embed(gateway, each, cache=wish, encoding_format=form, dimensions=size)
                            for each, form, wish, size in requests
                        )
                    )
                    for (each, _, _, size), answer in zip(requests, answers, strict=True):
                        is_list = isinstance(each, list) and isinstance(each[0], str | list)
                        assert vectors_of(answer) == expected(*(each if is_list else [each]), size=size)

    asyncio.run(ask_all())


async def until_on_disk(gateway: RunningGateway) -> None:
    async with asyncio.timeout(10):
        while not any(tier["entries"] for tier in (await gateway.ask("GET", "/admin/cache")).json["tiers"]):
            await asyncio.sleep(0.01)
