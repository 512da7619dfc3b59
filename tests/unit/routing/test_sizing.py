"""Vectors of an expected size: asked for again by its name, then elsewhere, and never the caller's fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.call import Call
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnavailable,
    UpstreamWrongSize,
)
from gateway.providers import Exchange, PlainReply, Reply
from gateway.routing import Failover, Refusals, Route
from tests.support.deployments import FakeClock, ScriptedProvider, make_healths, make_table
from tests.support.exchanges import make_call

NATIVE, EXPECTED = 8, 4


class Embedder(ScriptedProvider):
    """Gives vectors of its own size; with `takes_sizes` of the one that is asked for, else it raises `refusal` or ignores it."""

    def __init__(
        self, name: str, *, size: int = NATIVE, takes_sizes: bool = False, refusal: GatewayError | None = None
    ) -> None:
        super().__init__(name)
        self.size = size
        self.takes_sizes = takes_sizes
        self.refusal = refusal

    @property
    def sizes(self) -> list[int | None]:
        """Return the `dimensions` of each request, None where there were none."""
        return [exchange.body.get("dimensions") for exchange in self.asked]

    async def send(self, exchange: Exchange) -> Reply:
        await super().send(exchange)
        named = exchange.body.get("dimensions")
        if named is not None and self.refusal is not None:
            raise self.refusal
        size = named if named is not None and self.takes_sizes else self.size
        if size != (named or exchange.dimensions or size):
            raise UpstreamWrongSize("wrong size")
        return PlainReply(self.name.encode(), None, vectors=(bytes(4 * size),))


def route_of(*providers: Embedder, settings: dict[str, Any] | None = None) -> Route:
    """Return a route that expects vectors of EXPECTED numbers from one deployment of each provider."""
    table = make_table({"small": [f"{provider.name}/m" for provider in providers]}, providers)
    route = table.resolve(make_call())
    changed = [
        replace(each, dimensions=EXPECTED, settings={**each.settings, "embeddings": settings or {}})
        for each in route.deployments
    ]
    return replace(route, deployments=tuple(changed))


def calling(**body: Any) -> Call:
    return make_call(endpoint="embeddings", body={"input": "a", **body})


@pytest.fixture
def failover(clock: FakeClock) -> Failover:
    return Failover(make_healths(clock), Refusals(), clock)


async def ask(failover: Failover, route: Route, call: Call | None = None) -> tuple[bytes, int]:
    """Return who answered, and with how many numbers."""
    async with await failover.first_success(call or calling(), route) as reply:
        assert reply.vectors is not None
        return reply.body, len(reply.vectors[0]) // 4


async def test_a_model_with_the_expected_size_is_asked_once(failover: Failover) -> None:
    only = Embedder("only", size=EXPECTED)

    assert await ask(failover, route_of(only)) == (b"only", EXPECTED)
    assert only.sizes == [None]


async def test_a_model_that_gives_another_size_is_asked_for_the_expected_one(failover: Failover) -> None:
    only, call = Embedder("only", takes_sizes=True), calling()

    assert await ask(failover, route_of(only), call) == (b"only", EXPECTED)
    assert only.sizes == [None, EXPECTED]
    assert [attempt.outcome for attempt in call.record.attempts] == ["upstream_bad_response", "ok"]


async def test_from_then_on_the_size_is_named_at_once(failover: Failover) -> None:
    only = Embedder("only", takes_sizes=True)

    for _ in range(3):
        await ask(failover, route_of(only))

    assert only.sizes == [None, EXPECTED, EXPECTED, EXPECTED]


async def test_a_model_that_no_longer_takes_the_size_is_asked_without(failover: Failover) -> None:
    only = Embedder("only", takes_sizes=True)
    await ask(failover, route_of(only))
    only.refusal, only.size = UpstreamRejected("x", param="dimensions"), EXPECTED

    assert await ask(failover, route_of(only)) == (b"only", EXPECTED)
    assert only.sizes == [None, EXPECTED, EXPECTED, None]


async def test_where_the_size_cannot_be_had_the_next_deployment_is_asked(failover: Failover) -> None:
    first, second, call = Embedder("first"), Embedder("second", size=EXPECTED), calling()

    assert await ask(failover, route_of(first, second), call) == (b"second", EXPECTED)
    assert first.sizes == [None, EXPECTED]
    assert [attempt.deployment for attempt in call.record.attempts] == ["first/m", "first/m", "second/m"]


REFUSALS: list[GatewayError] = [
    InvalidRequest("x", param="dimensions"),
    UpstreamRejected("x", param="dimensions", code="unsupported_parameter"),
    UpstreamRejected("x", param="dimensions"),
    UpstreamRejected("x"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refused_size_that_the_caller_did_not_name_is_not_its_fault(
    failover: Failover, refusal: GatewayError
) -> None:
    only = Embedder("only", refusal=refusal)

    with pytest.raises(UpstreamWrongSize) as caught:
        await ask(failover, route_of(only))

    assert (caught.value.http_status, caught.value.code) == (502, "upstream_bad_response")
    assert only.sizes == [None, EXPECTED]


@pytest.mark.parametrize("refusal", REFUSALS[:3])
async def test_a_refused_size_of_the_settings_is_not_the_callers_fault(
    failover: Failover, refusal: GatewayError
) -> None:
    first, second = Embedder("first", refusal=refusal), Embedder("second", takes_sizes=True)

    assert await ask(failover, route_of(first, second, settings={"dimensions": 2})) == (b"second", 2)
    assert first.sizes == [2]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refused_size_that_the_caller_named_is_told_to_it(failover: Failover, refusal: GatewayError) -> None:
    first, second = Embedder("first", refusal=refusal), Embedder("second", takes_sizes=True)

    with pytest.raises(type(refusal)):
        await ask(failover, route_of(first, second), calling(dimensions=2))

    assert (first.sizes, second.sizes) == ([2], [])


async def test_what_the_caller_asks_for_comes_before_what_is_expected(failover: Failover) -> None:
    only = Embedder("only", takes_sizes=True)

    assert await ask(failover, route_of(only), calling(dimensions=2)) == (b"only", 2)
    assert only.sizes == [2]


async def test_an_ignored_size_of_the_callers_is_looked_for_elsewhere(failover: Failover) -> None:
    first, second = Embedder("first"), Embedder("second", takes_sizes=True)

    assert await ask(failover, route_of(first, second), calling(dimensions=2)) == (b"second", 2)
    assert first.sizes == [2]


async def test_a_failure_at_the_second_try_is_told_as_it_is(failover: Failover) -> None:
    class Failing(Embedder):
        async def send(self, exchange: Exchange) -> Reply:
            if exchange.body.get("dimensions"):
                raise UpstreamUnavailable("gone")
            return await super().send(exchange)

    with pytest.raises(UpstreamUnavailable):
        await ask(failover, route_of(Failing("only")))


async def test_wrong_sizes_take_no_deployment_away(failover: Failover) -> None:
    only = Embedder("only")

    for _ in range(30):
        with pytest.raises(UpstreamError):
            await ask(failover, route_of(only))

    assert len(only.asked) == 60


def test_vectors_of_other_sizes_cannot_stand_for_the_first_ones() -> None:
    route = route_of(Embedder("first"), Embedder("second"), Embedder("third"))
    sizes = (EXPECTED, None, EXPECTED)
    mixed = tuple(replace(each, dimensions=size) for each, size in zip(route.deployments, sizes, strict=True))

    same = replace(route, deployments=mixed).in_one_space

    assert [each.name for each in same.deployments] == ["first/m", "third/m"]
