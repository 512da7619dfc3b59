"""From the name a caller sends to the deployments that may answer it, and who may use which name."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.call import Call, Caller, Endpoint
from gateway.errors import ModelNotFound, PermissionDenied
from gateway.providers import Provider, TokenField
from gateway.routing.settings import (
    DeploymentPlan,
    RoutePlan,
    RoutingPlan,
    StrategyName,
    TimeoutSettings,
    Truncation,
)
from gateway.routing.styles import choose_class, split_style

AUTO = "auto"
_CHOSEN = ("medium", "small", "large")
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Deployment:
    """One provider and one upstream model, ready to be asked.

    `name` is `provider/model`; `label` is the same in metrics, where the model is `other` unless it is configured.
    `settings` fill in what a request leaves out, by endpoint, without those that the model `refuses`. Deployments of the
    same `account` share a host and a key; None shares with nobody. A local model that is not loaded, or for which
    `spill_queue` calls wait, leaves a call to the next. `context_window`, `dimensions`, the limits of a request and
    `revision` are as in DeploymentPlan.
    """

    name: str
    label: str
    provider: Provider
    model: str
    settings: Mapping[Endpoint, Mapping[str, Any]]
    timeouts: TimeoutSettings
    context_window: int | None = None
    max_output_tokens: int | None = None
    token_field: TokenField | None = None
    refuses: frozenset[str] = frozenset()
    drop_params: bool = False
    allowed_extra: frozenset[str] = frozenset()
    weight: float = 1.0
    dimensions: int | None = None
    max_batch_inputs: int | None = None
    max_batch_tokens: int | None = None
    revision: str = ""
    account: Hashable = None
    spill_queue: int | None = None
    is_configured: bool = True  # otherwise a caller spelled it out


@dataclass(frozen=True, slots=True)
class Route:
    """An alias's deployments in their configured order; `label` is the alias in metrics.

    `larger` and `unfiltered` lead to what is asked instead when a request is too long, or a content filter refuses it,
    `patient` to the local models that left a call to others in vain: there it waits for its turn. `truncation` says what
    becomes of what is too long, None for what is usual.
    """

    alias: str
    label: str
    strategy: StrategyName
    deployments: tuple[Deployment, ...]
    larger: Route | None = None
    unfiltered: Route | None = None
    patient: Route | None = None
    truncation: Truncation | None = None

    @property
    def every_deployment(self) -> tuple[Deployment, ...]:
        """Return the deployments and those that are asked instead."""
        instead = (route.deployments for route in (self.larger, self.unfiltered) if route is not None)
        return (*self.deployments, *(deployment for deployments in instead for deployment in deployments))

    @property
    def in_one_space(self) -> Route:
        """Return the route over those deployments whose vectors can stand for the first's: of the same model and size.

        They are also asked for the same type of input, where the configuration says one.
        """
        if len(self.deployments) == 1 and self.larger is None and self.unfiltered is None:
            return self
        first = _space(self.deployments[0])
        same = tuple(deployment for deployment in self.deployments if _space(deployment) == first)
        patient = self.patient and self.patient.in_one_space  # it begins with the same deployment
        return replace(self, deployments=same, larger=None, unfiltered=None, patient=patient)


class RouteTable:
    """All routes of the configuration, and those that a `provider/model` name spells out."""

    def __init__(self, plan: RoutingPlan, providers: Mapping[str, Provider]) -> None:
        self._plan = plan
        self._providers = providers
        self._routes = {alias: self._build(route, alias) for alias, route in plan.routes.items()}
        if plan.chooses:
            seen = next(self._routes[name] for name in _CHOSEN if name in self._routes)
            self._routes[AUTO] = Route(AUTO, AUTO, seen.strategy, seen.deployments)

    def resolve(self, call: Call) -> Route:
        """Return the route of `call.alias`, and set the style that it names; raises ModelNotFound or PermissionDenied."""
        alias = call.alias
        route = self._routes.get(alias)
        if route is None:
            alias, style = split_style(alias)
            call.style = style or call.style
            route = self._routes.get(alias) or self._spelled_out(alias)
        may_use = call.caller.may_use(alias)
        if route is not None and alias == AUTO and self._plan.chooses:
            alias = self._choose(call)
            route = self._routes.get(alias)
            may_use = may_use or call.caller.may_use(alias)
        if route is None:
            raise ModelNotFound(self._not_found(alias, call.caller), param="model")
        if not may_use:
            raise PermissionDenied(f"This API key may not use the model '{alias}'.", param="model")
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
        return [alias for alias in self._plan.routes if not await _may_answer(self._routes[alias])]

    def _choose(self, call: Call) -> str:
        """Return the class for a call to `auto`, by what its headers or its metadata say; a served one if there is any."""
        metadata = call.body.get("metadata")
        told = metadata if isinstance(metadata, dict) else {}
        chosen = choose_class(_word(call.speed or told.get("speed")), _word(call.complexity or told.get("complexity")))
        return next(name for name in (chosen, *_CHOSEN) if name in self._routes)

    def _spelled_out(self, name: str) -> Route | None:
        plan = self._plan.direct(name)
        return None if plan is None else self._build(plan, "other", is_configured=False)

    def _build(self, plan: RoutePlan, label: str, *, is_configured: bool = True) -> Route:
        def over(plans: tuple[DeploymentPlan, ...]) -> Route:
            deployments = [self._deploy(each, len(plans), is_configured=is_configured) for each in plans]
            waiting = tuple(deployments[:-1])
            if plan.spill_queue is None or not waiting:  # whoever is the last has nobody to leave a call to
                return Route(plan.alias, label, plan.strategy, tuple(deployments))
            deployments[:-1] = [replace(each, spill_queue=plan.spill_queue) for each in waiting]
            patient = Route(plan.alias, label, plan.strategy, waiting)
            return Route(plan.alias, label, plan.strategy, tuple(deployments), patient=patient)

        return replace(
            over(plan.deployments),
            larger=over(plan.context_fallbacks) if plan.context_fallbacks else None,
            unfiltered=over(plan.content_filter_fallbacks) if plan.content_filter_fallbacks else None,
            truncation=plan.truncation,
        )

    def _deploy(self, plan: DeploymentPlan, of: int, *, is_configured: bool) -> Deployment:
        name = f"{plan.provider}/{plan.model}"
        provider = self._providers[plan.provider]
        return Deployment(
            name=name,
            label=name if is_configured else f"{plan.provider}/other",
            provider=provider,
            model=plan.model,
            settings={
                endpoint: {field: value for field, value in fields.items() if field not in plan.refuses}
                for endpoint, fields in plan.settings.items()
            },
            timeouts=plan.timeouts.shared_by(of),
            context_window=plan.context_window,
            max_output_tokens=plan.max_output_tokens,
            token_field=plan.token_field,
            refuses=plan.refuses,
            drop_params=plan.drop_params,
            allowed_extra=plan.allowed_extra,
            weight=plan.weight,
            dimensions=plan.dimensions,
            max_batch_inputs=plan.max_batch_inputs,
            max_batch_tokens=plan.max_batch_tokens,
            revision=plan.revision,
            account=provider.account,
            is_configured=is_configured,
        )

    def _not_found(self, alias: str, caller: Caller) -> str:
        if alias in self._plan.missing and caller.may_use(alias):
            return self._plan.missing[alias]
        if alias == AUTO and caller.may_use(alias) and "medium" in self._plan.missing:
            return self._plan.missing["medium"].replace("'medium'", "'medium', 'small' or 'large'")
        known = [route.alias for route in self.visible(caller)]
        known += [name for name in caller.models if name not in known and self._spelled_out(name) is not None]
        near = difflib.get_close_matches(alias[:100], known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        shown = alias if len(alias) <= 100 else alias[:100] + "…"
        listed = (
            f" You may use: {', '.join(known[:_MOST_LISTED])}{', …' if len(known) > _MOST_LISTED else ''}."
            if known
            else ""
        )
        return f"The model '{shown}' does not exist or you do not have access to it.{hint}{listed}"


def _space(deployment: Deployment) -> tuple[str, object, object]:
    """Return what decides the space of a deployment's vectors; makers' names may come before the model's."""
    settings = deployment.settings["embeddings"]
    size = settings.get("dimensions") or deployment.dimensions
    return deployment.model.rpartition("/")[2].lower(), size, settings.get("input_type")


def _word(told: object) -> str:
    return told.strip().lower() if isinstance(told, str) else ""


async def _may_answer(route: Route) -> bool:
    for deployment in route.deployments:
        if await deployment.provider.is_ready(deployment.model):
            return True
    return False
