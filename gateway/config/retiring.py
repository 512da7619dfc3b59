"""Which configured models their providers have switched off or are about to, and the warnings that say so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from gateway.config.resolving import Resolved
from gateway.providers import HostedSettings, LiteLLMSettings, ModelFacts, look_up
from gateway.routing import DeploymentPlan

WARNING_DAYS = 60


def warn_of_retirement(resolved: Resolved, today: date) -> Iterator[str]:
    """Yield a line for each deployment of a route whose model is switched off within 60 days of `today`, or was."""
    seen: set[str] = set()
    for alias, route in resolved.plan.routes.items():
        for deployment in route.every_deployment:
            day = retirement(resolved, deployment)
            name = f"{deployment.provider}/{deployment.model}"
            if day is None or name in seen or (day - today).days > WARNING_DAYS:
                continue
            seen.add(name)
            when = f"was switched off on {day}" if day <= today else f"will be switched off on {day}"
            yield f"model {alias}: {name} {when} by its provider; choose another"


def retirement(resolved: Resolved, deployment: DeploymentPlan) -> date | None:
    """Return the day on which a deployment's model is switched off, None where none is known."""
    facts = known_facts(resolved, deployment)
    return facts.retires if facts else None


def known_facts(resolved: Resolved, deployment: DeploymentPlan) -> ModelFacts | None:
    """Return what the configuration and the presets say of a deployment's model, and litellm's price map of the rest."""
    entry = resolved.providers[deployment.provider]
    if not isinstance(entry, HostedSettings):
        return None
    prefix = entry.prefix if isinstance(entry, LiteLLMSettings) else entry.price_map
    listed = look_up(prefix, deployment.model) if prefix else None
    own = entry.models.get(deployment.model)
    if own is None or listed is None:
        return own or listed
    return listed.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
