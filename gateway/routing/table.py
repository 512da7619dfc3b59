"""From the name a caller sends to the deployments that may answer it, and who may use which name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.call import Call, Caller
from gateway.errors import ModelNotFound, PermissionDenied
from gateway.providers import Provider
from gateway.routing.settings import DeploymentPlan, RoutePlan, RoutingPlan, TimeoutSettings


@dataclass(frozen=True, slots=True)
class Deployment:
    """One provider and one upstream model, ready to be asked.

    `name` is `provider/model`; `label` is the same in metrics, where the model is `other` unless it is configured.
    """

    name: str
    label: str
    provider: Provider
    model: str
    settings: Mapping[str, Any]
    timeouts: TimeoutSettings


@dataclass(frozen=True, slots=True)
class Route:
    """An alias's deployments in their configured order; `label` is the alias in metrics."""

    alias: str
    label: str
    strategy: str
    deployments: tuple[Deployment, ...]


class RouteTable:
    """All routes of the configuration, and those that a `provider/model` name spells out."""

    def __init__(self, plan: RoutingPlan, providers: Mapping[str, Provider]) -> None:
        self._plan = plan
        self._providers = providers
        self._routes = {alias: self._build(route, alias) for alias, route in plan.routes.items()}

    def resolve(self, call: Call) -> Route:
        """Return the route of `call.alias`; raises ModelNotFound or PermissionDenied."""
        route = self._routes.get(call.alias) or self._spelled_out(call.alias)
        if route is None:
            raise ModelNotFound(self._not_found(call.alias, call.caller), param="model")
        if not call.caller.may_use(call.alias):
            raise PermissionDenied(f"This API key may not use the model '{call.alias}'.", param="model")
        return route

    def visible(self, caller: Caller) -> list[Route]:
        """Return the configured routes that `caller` may use, in their configured order."""
        return [route for route in self._routes.values() if caller.may_use(route.alias)]

    def find(self, alias: str, caller: Caller) -> Route | None:
        """Return the route of `alias` if there is one that `caller` may use."""
        route = self._routes.get(alias) or self._spelled_out(alias)
        return route if route is not None and caller.may_use(alias) else None

    async def unready(self) -> list[str]:
        """Return the aliases that no deployment could answer now."""
        return [route.alias for route in self._routes.values() if not await _may_answer(route)]

    def _spelled_out(self, name: str) -> Route | None:
        plan = self._plan.direct(name)
        return None if plan is None else self._build(plan, "other")

    def _build(self, plan: RoutePlan, label: str) -> Route:
        deployments = tuple(self._deploy(deployment, label) for deployment in plan.deployments)
        return Route(plan.alias, label, plan.strategy, deployments)

    def _deploy(self, plan: DeploymentPlan, label: str) -> Deployment:
        name = f"{plan.provider}/{plan.model}"
        return Deployment(
            name=name,
            label=name if label != "other" else f"{plan.provider}/other",
            provider=self._providers[plan.provider],
            model=plan.model,
            settings=plan.settings,
            timeouts=plan.timeouts,
        )

    def _not_found(self, alias: str, caller: Caller) -> str:
        known = [route.alias for route in self.visible(caller)]
        near = difflib.get_close_matches(alias[:100], known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        shown = alias if len(alias) <= 100 else alias[:100] + "…"
        return f"The model '{shown}' does not exist or you do not have access to it.{hint}"


async def _may_answer(route: Route) -> bool:
    for deployment in route.deployments:
        if await deployment.provider.is_ready(deployment.model):
            return True
    return False
