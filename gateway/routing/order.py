"""In which order a route's deployments are tried: pure iterators over what is healthy.

Each looks at a deployment's health in the moment it would yield it, for the attempts before it may have changed that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from gateway.call import Call
from gateway.routing.health import Health
from gateway.routing.table import Deployment, Route

_UNKNOWN_SECONDS = 60.0  # while one call finds out how fast somebody is, the others go elsewhere

# A strategy: the deployments of a route, best first, without those that rest.
Strategy = Callable[[Route, Health, Call], Iterator[Deployment]]


def priority(route: Route, health: Health, call: Call) -> Iterator[Deployment]:
    """Yield the deployments in their configured order; one that grew far slower than it was comes after the others."""
    shunned: list[Deployment] = []
    caller = call.caller.name
    alone = len(route.deployments) == 1
    # Plain answers take as long as they are long, so only the beginning of streams tells of a slow upstream.
    pace_matters = call.stream and not alone
    for deployment in route.deployments:
        if not health.may_ask(deployment, caller, alone=alone):
            continue
        if pace_matters and _is_shunned(deployment, health):
            shunned.append(deployment)
        else:
            yield deployment
    yield from _askable(shunned, health, caller, alone=False)


def weighted(route: Route, health: Health, call: Call) -> Iterator[Deployment]:
    """Yield the deployments in random order: each comes first as often as its weight among those that are healthy says."""
    caller, alone = call.caller.name, len(route.deployments) == 1
    waiting = [deployment for deployment in route.deployments if health.may_ask(deployment, caller, alone=alone)]
    while waiting:
        point = health.dice() * sum(deployment.weight for deployment in waiting)
        chosen = waiting[-1]
        for deployment in waiting:
            point -= deployment.weight
            if point < 0:
                chosen = deployment
                break
        waiting.remove(chosen)
        if health.may_ask(chosen, caller, alone=alone):
            yield chosen


def least_busy(route: Route, health: Health, call: Call) -> Iterator[Deployment]:
    """Yield the deployments by the calls they are answering now, for each unit of their weight."""
    yield from _askable(
        sorted(route.deployments, key=lambda deployment: health.of(deployment).in_flight / deployment.weight),
        health,
        call.caller.name,
        alone=len(route.deployments) == 1,
    )


def lowest_latency(route: Route, health: Health, call: Call) -> Iterator[Deployment]:
    """Yield the deployments by how soon their answers began lately, times the calls they would be answering.

    Those of which nothing was heard for a while are tried by one call at a time, those that failed last come last.
    """
    now = health.clock()

    def cost(deployment: Deployment) -> tuple[bool, float]:
        condition = health.of(deployment)
        pace = condition.stream_pace if call.stream else condition.plain_pace
        running = condition.in_flight / deployment.weight
        if pace.is_known(now):
            return condition.is_doubtful(now), pace.average * (1 + running)
        return condition.is_doubtful(now), (pace.average or _UNKNOWN_SECONDS) * running

    alone = len(route.deployments) == 1
    yield from _askable(sorted(route.deployments, key=cost), health, call.caller.name, alone=alone)


STRATEGIES: Mapping[str, Strategy] = {
    "priority": priority,
    "weighted": weighted,
    "least_busy": least_busy,
    "lowest_latency": lowest_latency,
}


def _askable(deployments: Iterable[Deployment], health: Health, caller: str, *, alone: bool) -> Iterator[Deployment]:
    return (deployment for deployment in deployments if health.may_ask(deployment, caller, alone=alone))


def _is_shunned(deployment: Deployment, health: Health) -> bool:
    pace = health.of(deployment).stream_pace
    return pace.is_slow and pace.is_shunned(health.clock())
