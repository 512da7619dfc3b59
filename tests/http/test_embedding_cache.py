"""Embeddings that were asked for before are not asked for again; the answers are the same to the bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.app import RunningGateway, running
from tests.support.embedding import asked, embed, expected, make_caching, vectors_of
from tests.support.upstream import Embeddings, ScriptedUpstream, Status, drop_last, put_nan


async def test_what_was_asked_before_comes_from_memory(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        first = await embed(gateway, "a")
        second = await embed(gateway, "a")

    assert vectors_of(first) == vectors_of(second) == expected("a")
    assert asked(upstream) == ["a"]
    assert first.headers["x-gateway-cache"] == "hits=0 misses=1"
    assert second.headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"


async def test_only_what_is_missing_is_asked_for_and_the_same_once(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        await embed(gateway, ["b", "d"])

        answer = await embed(gateway, ["a", "b", "c", "a", "d", "c"])

    assert vectors_of(answer) == expected("a", "b", "c", "a", "d", "c")
    assert asked(upstream)[1] == ["a", "c"]
    assert answer.headers["x-gateway-cache"] == "hits=2 misses=4 memory=2"


async def test_encodings_share_an_entry(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        answers = [await embed(gateway, ["a"], encoding_format=form) for form in ("base64", "float", "base64")]

    assert {bytes(vector) for answer in answers for vector in vectors_of(answer)} == set(expected("a"))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "fields",
    [{"dimensions": 4}, {"input_type": "query"}, {"task": "search"}],
    ids=["dimensions", "input type", "a field of the upstream's own"],
)
async def test_what_a_vector_depends_on_is_kept_apart(upstream: ScriptedUpstream, fields: dict[str, Any]) -> None:
    async with running(make_caching(upstream)) as gateway:
        await embed(gateway, "a")

        answer = await embed(gateway, "a", **fields)

    assert answer.headers["x-gateway-cache"] == "hits=0 misses=1"
    assert len(upstream.requests) == 2


async def test_texts_and_token_ids_are_kept_apart(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        await embed(gateway, "1")

        answer = await embed(gateway, [1])

    assert vectors_of(answer) == expected([1])


async def test_the_user_and_the_encoding_make_no_difference(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        await embed(gateway, "a", user="one")

        answer = await embed(gateway, "a", user="two", encoding_format="base64")

    assert answer.headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"


@pytest.mark.parametrize(("scope", "calls"), [("shared", 1), ("caller", 2)])
async def test_callers_share_unless_told_otherwise(upstream: ScriptedUpstream, scope: str, calls: int) -> None:
    embeddings = {"cache": {"disk": None, "scope": scope}}
    keys = [{"name": name, "key": f"sk-{name}-0123456789"} for name in ("one", "two")]
    async with running(make_caching(upstream, embeddings=embeddings, keys=keys)) as gateway:
        for key in keys:
            await embed(gateway, "a", key=key["key"])

    assert len(upstream.requests) == calls


async def test_usage_tells_what_was_remembered(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        whole = await embed(gateway, ["one two", "three"])
        partly = await embed(gateway, ["one two", "four five six"])

    assert whole.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    usage = partly.json["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"]
    assert usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] == 3


async def test_the_log_and_the_metrics_tell_of_the_cache(upstream: ScriptedUpstream) -> None:
    async with running(make_caching(upstream)) as gateway:
        await embed(gateway, ["a", "b"])
        await embed(gateway, ["a", "b", "c"])
        figures = await gateway.figures()

    assert [(line["cache_hits"], line["cache_misses"]) for line in gateway.lines()[:2]] == [(0, 2), (2, 1)]
    assert figures["gateway_embedding_cache_lookups_total", "hit", "memory"] == 2
    assert figures["gateway_embedding_cache_lookups_total", "memory", "miss"] == 3


@pytest.mark.parametrize(
    "behaviour",
    [Embeddings(spoil=drop_last), Embeddings(spoil=put_nan, force="float"), Status(500)],
    ids=["one short", "not a number", "failed"],
)
async def test_f50_a_wrong_answer_is_not_remembered(upstream: ScriptedUpstream, behaviour: Any) -> None:
    async with running(make_caching(upstream)) as gateway:
        upstream.script(behaviour)
        failed = await embed(gateway, ["a", "b"])
        answer = await embed(gateway, ["a", "b"])

    assert failed.status == 502
    assert vectors_of(answer) == expected("a", "b")
    assert answer.headers["x-gateway-cache"] == "hits=0 misses=2"


class TestWishes:
    async def test_no_cache_asks_again_and_remembers(self, upstream: ScriptedUpstream) -> None:
        async with running(make_caching(upstream)) as gateway:
            await embed(gateway, "a")
            fresh = await embed(gateway, "a", cache="no-cache")
            answer = await embed(gateway, "a")

        assert fresh.headers["x-gateway-cache"] == "hits=0 misses=1"
        assert answer.headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"
        assert len(upstream.requests) == 2

    async def test_no_store_remembers_nothing(self, upstream: ScriptedUpstream) -> None:
        async with running(make_caching(upstream)) as gateway:
            await embed(gateway, "a", cache="no-store")
            await embed(gateway, "a")

        assert len(upstream.requests) == 2

    async def test_the_body_says_the_same(self, upstream: ScriptedUpstream) -> None:
        async with running(make_caching(upstream)) as gateway, gateway.client() as client:
            for _ in range(2):
                await client.embeddings.create(
                    model="embedding", input="a", extra_body={"cache": {"no-cache": True, "no-store": True}}
                )

        assert len(upstream.requests) == 2
        assert "cache" not in upstream.requests[0].json

    async def test_only_if_cached_asks_nobody(self, upstream: ScriptedUpstream) -> None:
        async with running(make_caching(upstream)) as gateway:
            await embed(gateway, "a")
            found = await embed(gateway, "a", cache="only-if-cached")
            missed = await embed(gateway, ["a", "b"], cache="only-if-cached")

        assert vectors_of(found) == expected("a")
        assert missed.status == 504
        assert missed.error["code"] == "not_remembered"
        assert missed.headers["x-should-retry"] == "false"
        assert len(upstream.requests) == 1

    async def test_ttl_and_age_are_in_seconds(self, upstream: ScriptedUpstream) -> None:
        moment = 1_800_000_000.0
        async with running(make_caching(upstream), now=lambda: moment) as gateway:
            await embed(gateway, ["short"], cache="ttl=60")
            await embed(gateway, ["usual"])
            moment += 100
            short = await embed(gateway, ["short"])
            usual = await embed(gateway, ["usual"])
            too_old = await embed(gateway, ["usual"], cache="s-maxage=99")

        assert short.headers["x-gateway-cache"] == "hits=0 misses=1"
        assert usual.headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"
        assert too_old.headers["x-gateway-cache"] == "hits=0 misses=1"

    @pytest.mark.parametrize(
        ("header", "field"),
        [
            ("maybe", None),
            ("ttl", None),
            ("ttl=0", None),
            ("ttl=-1", None),
            ("ttl=1e3", None),
            ("no-cache=1", None),
            ("no-cache, only-if-cached", None),
            (None, "no-cache"),
            (None, {"no-cache": 1}),
            (None, {"ttl": "60"}),
            (None, {"ttl": True}),
            (None, {"namespace": "a"}),
        ],
    )
    async def test_what_is_not_understood_is_refused(
        self, upstream: ScriptedUpstream, header: str | None, field: Any
    ) -> None:
        async with running(make_caching(upstream)) as gateway:
            answer = await embed(gateway, "a", cache=header, **({} if field is None else {"cache_": field}))
            if field is not None:
                content = json.dumps({"model": "embedding", "input": "a", "cache": field})
                answer = await gateway.ask(
                    "POST", "/v1/embeddings", data=content, headers={"Content-Type": "application/json"}
                )

        assert answer.status == 400
        assert answer.error["param"] == "cache"


class TestDimensions:
    async def test_a_remembered_vector_of_another_size_is_a_miss(self, upstream: ScriptedUpstream) -> None:
        async with running(make_caching(upstream, deployment={"dimensions": 8})) as gateway:
            await embed(gateway, "a")
            remembered = await embed(gateway, "a")

        assert remembered.headers["x-gateway-cache"] == "hits=1 misses=0 memory=1"

    async def test_another_size_is_asked_for_once_more_with_dimensions(self, upstream: ScriptedUpstream) -> None:
        async with running(make_caching(upstream, deployment={"dimensions": 6})) as gateway:
            answer = await embed(gateway, "a")

        assert vectors_of(answer) == expected("a", size=6)
        assert [request.json.get("dimensions") for request in upstream.requests] == [None, 6]
        assert answer.headers["x-gateway-attempts"] == "2"

    async def test_an_upstream_that_cannot_is_a_bad_gateway_and_nothing_is_kept(
        self, upstream: ScriptedUpstream
    ) -> None:
        def shorten(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{**item, "embedding": item["embedding"][:3]} for item in items]

        async with running(make_caching(upstream, deployment={"dimensions": 6})) as gateway:
            upstream.script(*[Embeddings(spoil=shorten, force="float")] * 2)
            failed = await embed(gateway, "a")
            answer = await embed(gateway, "a")

        assert failed.status == 502
        assert failed.error["code"] == "upstream_bad_response"
        assert answer.headers["x-gateway-cache"] == "hits=0 misses=1"


INPUTS = st.one_of(
    st.text(alphabet="ab", min_size=1, max_size=2),
    st.lists(st.integers(0, 2), min_size=1, max_size=2),
)
BATCHES = st.one_of(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=2), min_size=1, max_size=9),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=2), min_size=1, max_size=9),
    INPUTS,
)
REQUESTS = st.tuples(
    BATCHES, st.sampled_from(["float", "base64", None]), st.sampled_from([None, "no-cache", "no-store"])
)


@given(st.lists(REQUESTS, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mix_gives_what_an_upstream_would(requests: list[tuple[Any, str | None, str | None]]) -> None:
    import asyncio  # the test is not a coroutine, for Hypothesis runs it again and again

    async def ask_all() -> None:
        async with ScriptedUpstream() as upstream, running(make_caching(upstream)) as gateway:
            for given_input, form, cache in requests:
                fields = {} if form is None else {"encoding_format": form}
                answer = await embed(gateway, given_input, cache=cache, **fields)
                inputs = (
                    given_input
                    if isinstance(given_input, list) and isinstance(given_input[0], str | list)
                    else [given_input]
                )
                assert vectors_of(answer) == expected(*inputs)

    asyncio.run(ask_all())


async def test_without_a_cache_each_request_is_asked_as_it_came(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    for _ in range(2):
        answer = await embed(gateway, ["a", "a"])

    assert asked(upstream) == [["a", "a"], ["a", "a"]]
    assert "x-gateway-cache" not in answer.headers
