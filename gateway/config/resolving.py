"""From a Config to what routing needs: every alias's deployments with all defaults filled in.

A pure function; nothing is opened or asked. How deployments are tried is decided in `routing/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from gateway.config.document import CLASSES, Config
from gateway.providers import LlamaCppSettings, OpenAISettings
from gateway.routing import DeploymentPlan, DeploymentSettings, RoutePlan, RouteSettings, RoutingPlan, TimeoutSettings

ProviderEntry = OpenAISettings | LlamaCppSettings


@dataclass(frozen=True, slots=True)
class Resolved:
    """The providers that are on, in the order of preference, and the routes over them."""

    plan: RoutingPlan
    providers: Mapping[str, ProviderEntry]


def resolve(config: Config) -> Resolved:
    """Return the providers that are on and every route; classes without an entry in `models` get one."""
    providers = MappingProxyType({name: entry for name, entry in config.providers.items() if name not in config.off})
    routes: dict[str, RoutePlan] = {}
    for alias in dict.fromkeys([*CLASSES, *config.models]):
        settings = config.models.get(alias)
        if alias == "image":
            continue  # no endpoint of this version serves it
        route = _of_class(alias, providers) if settings is None else _of_entry(alias, settings, providers)
        if route.deployments:
            routes[alias] = route
    return Resolved(RoutingPlan(MappingProxyType(routes), partial(_spelled_out, providers)), providers)


def note_dropped(config: Config) -> Iterator[str]:
    """Yield a line for each entry of `models` that has no deployment left because providers are off."""
    for alias, settings in config.models.items():
        names = list(dict.fromkeys(deployment.provider for deployment in settings.deployments))
        if all(name in config.off for name in names):
            yield (
                f"model {alias} is off: {', '.join(names)} is off"
                if len(names) == 1
                else (f"model {alias} is off: {', '.join(names)} are off")
            )


def _of_class(alias: str, providers: Mapping[str, ProviderEntry]) -> RoutePlan:
    """Vectors of different models do not mix, so the class embedding has one deployment and never fails over."""
    deployments = [
        DeploymentPlan(name, model, settings_of(entry, model), TimeoutSettings())
        for name, entry in providers.items()
        if (model := upstream_model(entry, alias)) is not None and serves_class(entry, alias)
    ]
    return RoutePlan(alias, "priority", tuple(deployments[:1] if alias == "embedding" else deployments))


def _of_entry(alias: str, route: RouteSettings, providers: Mapping[str, ProviderEntry]) -> RoutePlan:
    deployments = [
        _deployment(entry, model, deployment, route)
        for deployment in route.deployments
        if (entry := providers.get(deployment.provider)) is not None
        and (model := upstream_model(entry, deployment.model)) is not None
    ]
    return RoutePlan(alias, route.strategy, tuple(deployments))


def _deployment(
    entry: ProviderEntry, model: str, deployment: DeploymentSettings, route: RouteSettings
) -> DeploymentPlan:
    return DeploymentPlan(
        provider=deployment.provider,
        model=model,
        settings={**settings_of(entry, model), **deployment.settings},
        timeouts=route.timeouts.with_overrides(deployment.timeouts),
        context_window=deployment.context_window,
        max_output_tokens=deployment.max_output_tokens,
        weight=deployment.weight,
    )


def _spelled_out(providers: Mapping[str, ProviderEntry], name: str) -> RoutePlan | None:
    """Return the route of `provider/model` or `provider/class`; the model may have slashes of its own."""
    provider, _, model = name.partition("/")
    entry = providers.get(provider)
    upstream = upstream_model(entry, model) if entry is not None else None
    if entry is None or not upstream:
        return None
    deployment = DeploymentPlan(provider, upstream, settings_of(entry, upstream), TimeoutSettings())
    return RoutePlan(name, "priority", (deployment,))


def settings_of(entry: ProviderEntry, model: str) -> Mapping[str, object]:
    """Return the provider's request fields for `model`; they are about text and would be refused with embeddings."""
    if isinstance(entry, LlamaCppSettings) or model == entry.classes.get("embedding"):
        return {}
    return entry.settings


def classes_of(entry: ProviderEntry) -> dict[str, str]:
    """Return the upstream model of each class that an endpoint of this version serves."""
    if isinstance(entry, OpenAISettings):
        return {name: model for name, model in entry.classes.items() if name in CLASSES}
    return {name: model for model, local in entry.models.items() for name in local.classes if name in CLASSES}


def serves_class(entry: ProviderEntry, name: str) -> bool:
    return name in classes_of(entry)


def upstream_model(entry: ProviderEntry, word: str) -> str | None:
    """Return the upstream's own name of the model for `word`, a class or a model; None where there is none."""
    if word in (*CLASSES, "image"):
        return classes_of(entry).get(word)
    if isinstance(entry, LlamaCppSettings):
        return word if word in entry.models else None
    return word if word.isprintable() and word.strip() else None
