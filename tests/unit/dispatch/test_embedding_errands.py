"""Whoever waits for vectors hears of them or of an error, whatever becomes of those who were to bring them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Hashable, Sequence
from struct import pack
from typing import TypeVar, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache import NO_WISHES, Entry, MemoryTier, MemoryTierSettings, Space, TierName, Tiers, TierState, Wishes
from gateway.call import Call, Endpoint, Record, Usage
from gateway.dispatch import EmbeddingDispatcher, Errands, Fitting, Flights, Terms
from gateway.dispatch.embeddings import Embedded
from gateway.dispatch.flights import Flight, Waiter
from gateway.errors import InvalidRequest, ShuttingDown, UpstreamUnavailable
from gateway.metrics import Metrics
from gateway.providers import Exchange, PlainReply, Reply
from gateway.routing import (
    Deployment,
    DeploymentPlan,
    Failover,
    Refusals,
    RoutePlan,
    RouteTable,
    RoutingPlan,
    TimeoutSettings,
)
from gateway.tokens import Tokenizer
from tests.support.deployments import ANYONE, FakeClock, make_healths

START = 1_800_000_000
Answer = TypeVar("Answer")


class Far:
    """A provider whose vectors have one number, the input's first letter; it does `before` first, if there is one."""

    name = "far"
    account: Hashable = None

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.before: Callable[[list[str]], None] = lambda _inputs: None
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, exchange: Exchange) -> Reply:
        given = exchange.body["input"]
        inputs = [given] if isinstance(given, str) else given
        self.asked.append(inputs)
        for _ in range(3):
            await asyncio.sleep(0)  # as an upstream would, it lets others come and go meanwhile
        self.before(inputs)
        await self.gate.wait()
        vectors = tuple(pack("<f", ord(text[0])) for text in inputs)
        return PlainReply(b"", Usage(len(inputs)), (), vectors)

    async def is_ready(self, model: str) -> bool:
        return True

    async def close(self) -> None:
        return None


class Slow:
    """A lower tier that has nothing, and says so of each look-up when its gate is open."""

    name: TierName = "redis"

    def __init__(self) -> None:
        self.gates: list[asyncio.Event] = []

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        self.gates.append(asyncio.Event())
        await self.gates[-1].wait()
        return {}

    def put_many(self, entries: Sequence[Entry], space: Space) -> None: ...

    async def clear(self, label: str | None = None) -> int:
        return 0

    async def state(self) -> TierState:
        return TierState("redis", 0, 0)

    async def close(self) -> None: ...


class Surroundings:
    """A dispatcher over one deployment, that takes `most` inputs at once; small requests wait `gathering` seconds."""

    def __init__(self, *, tier: Slow | None = None, most: int | None = None, gathering: float = 0.0) -> None:
        self.far = Far()
        clock = FakeClock()
        plan = DeploymentPlan(
            "far", "m", {key: {} for key in get_args(Endpoint)}, TimeoutSettings(), max_batch_inputs=most
        )
        table = RouteTable(
            RoutingPlan({"vectors": RoutePlan("vectors", "priority", (plan,))}, lambda _name: None), {"far": self.far}
        )
        memory = MemoryTier(MemoryTierSettings(), Metrics(lambda: ()).cache, lambda: START, lambda: 0.5)
        tiers = Tiers(memory, None, tier)
        self.flights = Flights()
        self.errands = Errands(
            Failover(make_healths(clock), Refusals(), clock),
            Fitting(_no_tokenizer),
            self.flights,
            tiers.remember,
            Terms(lambda _deployment: gathering, 2, lambda: START),
        )
        self._dispatcher = EmbeddingDispatcher(table, tiers, self.flights, self.errands, lambda: START)

    def ask(self, *inputs: str, wishes: Wishes = NO_WISHES) -> asyncio.Task[Embedded]:
        body = {"model": "vectors", "input": list(inputs)}
        call = Call("embeddings", body, "vectors", stream=False, caller=ANYONE, record=Record("req", 0.0))
        return asyncio.create_task(self._dispatcher.embed(call, wishes))


def _no_tokenizer(_deployment: Deployment) -> Tokenizer:
    raise AssertionError("nothing is cut here")


async def turn_round() -> None:
    """Let everything that can run now do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def soon(asking: Awaitable[Answer]) -> Answer:
    """Return what comes of it; a test that hangs fails."""
    async with asyncio.timeout(5):
        return await asking


async def test_what_others_brought_while_a_slow_tier_was_asked_is_not_asked_for_again() -> None:
    tier = Slow()
    around = Surroundings(tier=tier)
    first, second = around.ask("a"), around.ask("b", "a")
    await turn_round()

    tier.gates[0].set()
    brought = (await soon(first)).vectors
    tier.gates[1].set()
    answer = await soon(second)

    assert answer.vectors == [pack("<f", ord("b")), *brought]
    assert around.far.asked == [["a"], ["b"]]


async def test_the_end_comes_while_small_requests_wait_for_others() -> None:
    around = Surroundings(gathering=60.0)
    asking = [around.ask(text) for text in "ab"]
    await turn_round()

    await around.errands.close()
    outcomes = await soon(asyncio.gather(*asking, return_exceptions=True))

    assert [type(outcome) for outcome in outcomes] == [ShuttingDown] * 2
    assert around.far.asked == []
    assert len(around.flights) == 0


@pytest.mark.parametrize("most", [None, 1])
async def test_the_end_comes_while_an_upstream_is_asked(most: int | None) -> None:
    around = Surroundings(most=most)
    around.far.gate.clear()
    asking = around.ask("a", "b", "c")
    await turn_round()

    await around.errands.close()

    with pytest.raises(ShuttingDown):
        await soon(asking)
    assert len(around.flights) == 0


async def test_a_part_that_is_cancelled_by_nobody_we_know_leaves_no_one_waiting() -> None:
    def give_up(inputs: list[str]) -> None:
        if inputs == ["b"]:
            raise asyncio.CancelledError

    around = Surroundings(most=1)
    around.far.before = give_up

    with pytest.raises(ShuttingDown):
        await soon(around.ask("a", "b", "c"))
    assert len(around.flights) == 0


async def test_no_cache_asks_beside_what_is_on_its_way_and_is_joined_itself() -> None:
    around = Surroundings()
    around.far.gate.clear()
    asking = [around.ask("a")]
    await turn_round()
    asking.append(around.ask("a", wishes=Wishes(reads=False)))
    await turn_round()
    asking.append(around.ask("a"))
    await turn_round()

    around.far.gate.set()
    answers = await soon(asyncio.gather(*asking))

    assert [answer.vectors for answer in answers] == [[pack("<f", ord("a"))]] * 3
    assert around.far.asked == [["a"], ["a"]]
    assert [answer.usage.cached_tokens for answer in answers] == [0, 0, 1]
    assert len(around.flights) == 0


async def test_a_defect_is_told_to_everyone_with_its_own_trace() -> None:
    def fail(_inputs: list[str]) -> None:
        raise ZeroDivisionError

    around = Surroundings()
    around.far.before = fail
    errors = await soon(asyncio.gather(*(around.ask("a") for _ in range(50)), return_exceptions=True))

    assert {type(error) for error in errors} == {RuntimeError}
    causes = {error.__cause__ for error in errors if isinstance(error, Exception)}
    assert [type(cause) for cause in causes] == [ZeroDivisionError]
    assert len(around.far.asked) == 1


@pytest.mark.parametrize("turns", range(12))
async def test_the_first_may_leave_at_any_moment(turns: int) -> None:
    around = Surroundings(most=1)
    first = around.ask("a", "b", "c")
    for _ in range(turns):
        await asyncio.sleep(0)
    second = around.ask("c", "a")
    for _ in range(turns % 3):
        await asyncio.sleep(0)

    first.cancel()
    answer = await soon(second)

    assert answer.vectors == [pack("<f", ord(text)) for text in "ca"]
    await turn_round()
    assert len(around.flights) == 0


@pytest.mark.parametrize("turns", range(12))
async def test_when_all_leave_nothing_stays(turns: int) -> None:
    around = Surroundings(most=1)
    asking = [around.ask("a", "b"), around.ask("b", "c"), around.ask("c", "a")]
    for _ in range(turns):
        await asyncio.sleep(0)

    for task in asking:
        task.cancel()
    await soon(asyncio.gather(*asking, return_exceptions=True))
    await turn_round()

    assert len(around.flights) == 0
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize("error", [None, InvalidRequest, UpstreamUnavailable, ZeroDivisionError])
@pytest.mark.parametrize("leave", [False, True])
async def test_what_a_request_held_is_free_without_the_garbage_collector(
    error: type[Exception] | None, most: int | None, *, leave: bool
) -> None:
    def fail(_inputs: list[str]) -> None:
        if error is not None:
            raise error("no")

    around = Surroundings(most=most)
    around.far.before = fail
    gc.collect()
    gc.disable()
    try:
        before = count_held()
        asking = [around.ask("a", "b", "c") for _ in range(2)]
        for _ in range(4):
            await asyncio.sleep(0)
        assert all([task.cancel() for task in asking] if leave else asking)
        await soon(asyncio.gather(*asking, return_exceptions=True))
        await turn_round()
        del asking
        after = count_held()
    finally:
        gc.enable()

    assert after == before


def count_held() -> int:
    return sum(isinstance(each, Flight | Waiter | Call) for each in gc.get_objects())


STEPS = st.one_of(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5),  # a request for these
    st.integers(0, 5),  # the request of this number leaves
    st.sampled_from([0.1, 0.3, 0.7]),  # some turns pass, ten times as many
)


@given(
    steps=st.lists(STEPS, min_size=2, max_size=16),
    most=st.sampled_from([None, 1, 2]),
    gathering=st.sampled_from([0.0, 0.0001]),
)
@settings(max_examples=150, deadline=None)
def test_whoever_comes_and_goes_each_gets_what_it_asked_for(
    steps: list[list[str] | int | float], most: int | None, gathering: float
) -> None:
    def refuse(inputs: list[str]) -> None:
        if "f" in inputs:
            raise InvalidRequest("not this", param="input")

    async def play() -> None:
        around = Surroundings(most=most, gathering=gathering)
        around.far.before = refuse
        asking: list[tuple[list[str], asyncio.Task[Embedded]]] = []
        for step in steps:
            if isinstance(step, list):
                asking.append((step, around.ask(*step)))
            elif isinstance(step, float):
                for _ in range(int(10 * step)):
                    await asyncio.sleep(0)
            elif step < len(asking):
                asking[step][1].cancel()
        outcomes = await soon(asyncio.gather(*(task for _, task in asking), return_exceptions=True))

        for (inputs, _), outcome in zip(asking, outcomes, strict=True):
            if isinstance(outcome, Embedded):
                assert outcome.vectors == [pack("<f", ord(text)) for text in inputs]
            assert isinstance(
                outcome, asyncio.CancelledError | InvalidRequest if "f" in inputs else asyncio.CancelledError | Embedded
            )
        await turn_round()
        assert len(around.flights) == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(play())
