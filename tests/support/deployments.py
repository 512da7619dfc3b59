"""Routes of scripted providers, for what decides who is asked: they answer at once and note every question."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable
from typing import get_args

from gateway.call import Caller, Endpoint, Usage
from gateway.providers import Exchange, PlainReply, Provider, Reply
from gateway.routing import (
    Deployment,
    DeploymentPlan,
    FailoverSettings,
    Health,
    Healths,
    RoutePlan,
    RouteTable,
    RoutingPlan,
    TimeoutSettings,
)

ANYONE = Caller("anyone")


class FakeClock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class ScriptedProvider:
    """Raises the next error of its script, then answers for ever; each answer takes `takes_seconds` of the clock."""

    account: Hashable = None

    def __init__(
        self, name: str, *errors: BaseException, clock: FakeClock | None = None, takes_seconds: float = 0.0
    ) -> None:
        self.name = name
        self.asked: list[Exchange] = []
        self.is_available = True
        self.hangs = False
        self._errors = deque(errors)
        self._clock = clock
        self._takes_seconds = takes_seconds

    async def send(self, exchange: Exchange) -> Reply:
        self.asked.append(exchange)
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self._clock is not None:
            self._clock.advance(self._takes_seconds)
        if self._errors:
            raise self._errors.popleft()
        return PlainReply(self.name.encode(), Usage(1, 2))

    async def is_ready(self, model: str) -> bool:
        return self.is_available

    async def close(self) -> None:
        return None


def make_health(clock: FakeClock, *, dice: float = 0.5, settings: FailoverSettings | None = None) -> Health:
    """Return a Health without chance: at 0.5 the jitter is nothing."""
    return Health(clock, lambda: dice, settings)


def make_healths(clock: FakeClock, *, settings: FailoverSettings | None = None) -> Healths:
    """Return Healths without chance."""
    return Healths(clock, lambda: 0.5, settings)


def make_deployments(*names: str) -> list[Deployment]:
    """Return deployments written as `provider/model`, each of an account of its own."""
    return list(make_table({"small": list(names)}).visible(ANYONE)[0].deployments)


def make_plan(alias: str, *deployments: str) -> RoutePlan:
    """Return a route of deployments written as `provider/model`."""
    pairs = (deployment.split("/", 1) for deployment in deployments)
    plans = tuple(
        DeploymentPlan(provider, model, {key: {} for key in get_args(Endpoint)}, TimeoutSettings())
        for provider, model in pairs
    )
    return RoutePlan(alias, "priority", plans)


def make_table(routes: dict[str, list[str]], providers: Iterable[Provider] = ()) -> RouteTable:
    """Return a table of aliases with their deployments; a name with a known provider before its slash is direct."""
    by_name = {provider.name: provider for provider in providers}
    for deployments in routes.values():
        for deployment in deployments:
            name = deployment.split("/", 1)[0]
            by_name.setdefault(name, ScriptedProvider(name))

    def spell_out(name: str) -> RoutePlan | None:
        provider, slash, model = name.partition("/")
        return make_plan(name, name) if slash and model and provider in by_name else None

    plans = {alias: make_plan(alias, *deployments) for alias, deployments in routes.items()}
    return RouteTable(RoutingPlan(plans, spell_out), by_name)
