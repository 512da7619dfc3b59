"""From a Config to what routing needs: every alias's deployments with all defaults filled in.

Nothing is asked, and nothing read but what lies beside the code, and of local models which file it is. How deployments
are tried is decided in `routing/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from gateway.config.document import CLASSES, Config
from gateway.config.planning import plan_deployment
from gateway.providers import LiteLLMSettings, LlamaCppSettings, OpenAISettings
from gateway.routing import DeploymentPlan, DeploymentSettings, RoutePlan, RouteSettings, RoutingPlan

ProviderEntry = OpenAISettings | LiteLLMSettings | LlamaCppSettings
Planner = Callable[..., DeploymentPlan]  # plan_deployment, but for where models lie

_PLAIN_MODEL = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._@-]{0,127}(?::[0-9]{1,3})?")
_TEXT = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class Resolved:
    """The providers that are on, in the order of preference, and the routes over them."""

    plan: RoutingPlan
    providers: Mapping[str, ProviderEntry]


def resolve(config: Config) -> Resolved:
    """Return the providers that are on and every route; classes without an entry in `models` get one.

    Of local models that embed, it is looked at what file there is.
    """
    providers = MappingProxyType({name: entry for name, entry in config.providers.items() if name not in config.off})
    plan_one = partial(plan_deployment, models_dir=config.server.data_dir / "models")
    routes: dict[str, RoutePlan] = {}
    for alias in dict.fromkeys([*CLASSES, *config.models]):
        settings = config.models.get(alias)
        if settings is None:
            route = _of_class(alias, providers, plan_one)
        else:
            route = _of_entry(alias, settings, providers, plan_one)
        if route.deployments:
            routes[alias] = route
    plan = RoutingPlan(
        routes=MappingProxyType(routes),
        direct=partial(_spelled_out, providers, _known_models(providers), plan_one),
        missing=MappingProxyType({name: what_enables(name, config) for name in CLASSES if name not in routes}),
        chooses="auto" not in routes and any(name in routes for name in _TEXT),
    )
    return Resolved(plan, providers)


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


def what_enables(name: str, config: Config) -> str:
    """Say what would let a class that nobody serves be served."""
    waiting = [
        f"{provider} ({config.off[provider]})"
        for provider in config.off
        if name in classes_of(config.providers[provider])
    ]
    first = f"switch on {', '.join(waiting)}, or " if waiting else "configure a provider that serves it, or "
    return f"No provider that is on serves the class '{name}'. To have it, {first}name a deployment in models.{name}."


def _of_class(alias: str, providers: Mapping[str, ProviderEntry], plan_one: Planner) -> RoutePlan:
    """Vectors of different models do not mix, so the class embedding has one deployment and never fails over."""
    deployments = [
        plan_one(name, entry, model)
        for name, entry in providers.items()
        if (model := classes_of(entry).get(alias)) is not None
    ]
    return RoutePlan(alias, "priority", tuple(deployments[:1] if alias == "embedding" else deployments))


def _of_entry(alias: str, route: RouteSettings, providers: Mapping[str, ProviderEntry], plan_one: Planner) -> RoutePlan:
    def plans(written: Iterable[DeploymentSettings]) -> tuple[DeploymentPlan, ...]:
        return tuple(
            plan_one(deployment.provider, entry, model, deployment, route.timeouts)
            for deployment in written
            if (entry := providers.get(deployment.provider)) is not None
            and (model := upstream_model(entry, deployment.model)) is not None
        )

    return RoutePlan(
        alias,
        route.strategy,
        plans(route.deployments),
        context_fallbacks=plans(route.context_fallbacks),
        content_filter_fallbacks=plans(route.content_filter_fallbacks),
        spill_queue=route.spill.queue if route.spill is not None else None,
        truncation=route.truncation,
    )


def _spelled_out(
    providers: Mapping[str, ProviderEntry], known: Mapping[str, tuple[str, str]], plan_one: Planner, name: str
) -> RoutePlan | None:
    """Return the route of `provider/model`, of `provider/class`, or of a model that only its own name tells.

    The model may have slashes of its own.
    """
    provider, _, model = name.partition("/")
    entry = providers.get(provider)
    upstream = upstream_model(entry, model) if entry is not None else None
    # A maker's name may be a provider's too: openai/gpt-oss-20b is what Groq calls it.
    if name in known and not (upstream and entry is not None and _knows(entry, model)):
        provider, upstream = known[name]
        entry = providers[provider]
    if entry is None or not upstream or not _may_be_spelled(entry, upstream):
        return None
    return RoutePlan(name, "priority", (plan_one(provider, entry, upstream),))


def _may_be_spelled(entry: ProviderEntry, model: str) -> bool:
    """Tell whether a caller may name this model: litellm reads routes, regions and paths out of what looks like them."""
    return not isinstance(entry, LiteLLMSettings) or _knows(entry, model) or _PLAIN_MODEL.fullmatch(model) is not None


def _knows(entry: ProviderEntry, model: str) -> bool:
    return model in CLASSES or model in entry.models or model in classes_of(entry).values()


def _known_models(providers: Mapping[str, ProviderEntry]) -> Mapping[str, tuple[str, str]]:
    """Return the provider of every model that is known by name; the first that knows it wins."""
    known: dict[str, tuple[str, str]] = {}
    for name, entry in providers.items():
        models = [*entry.models] if isinstance(entry, LlamaCppSettings) else [*entry.classes.values(), *entry.models]
        for model in models:
            known.setdefault(model, (name, model))
    return MappingProxyType(known)


def classes_of(entry: ProviderEntry) -> dict[str, str]:
    """Return the upstream model of each class that a provider serves."""
    if isinstance(entry, LlamaCppSettings):
        return {name: model for model, local in entry.models.items() for name in local.classes}
    return {name: model for name, model in entry.classes.items() if model}


def upstream_model(entry: ProviderEntry, word: str) -> str | None:
    """Return the upstream's own name of the model for `word`, a class or a model; None where there is none."""
    if word in CLASSES:
        return classes_of(entry).get(word)
    if isinstance(entry, LlamaCppSettings):
        return word if word in entry.models else None
    return word if word.isprintable() and word.strip() else None
