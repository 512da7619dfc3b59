"""Which configured models their providers have switched off or are about to, and the warnings that say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from gateway.config.planning import listed_facts, map_name
from gateway.config.resolving import Resolved
from gateway.providers import (
    HostedSettings,
    LiteLLMSettings,
    LlamaCppSettings,
    ModelFacts,
    OpenAISettings,
    lists,
    look_up,
    presets,
)
from gateway.routing import DeploymentPlan

WARNING_DAYS = 60
_LIMITS = frozenset({"context_window", "max_output_tokens"})  # presets make them up for models that they do not know
_OWN_NAME = re.compile(r"(?:[^/]+/)?arn:|projects/|tunedModels/|\d+$")  # what accounts call their own
_TUNED = re.compile(r"ft:([^:]+)")  # an account's own as well, but it goes with the model that it was made of
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d/")
_NAMED_BY_ACCOUNTS = frozenset({"azure", "azure_ai"})


def warn_of_retirement(resolved: Resolved, today: date) -> Iterator[str]:
    """Yield a line for each deployment of a route whose model is switched off within 60 days of `today`, or was.

    Models that are long gone are in no list any more, so those are told of too that their provider's list has not.
    """
    seen: set[str] = set()
    for alias, route in resolved.plan.routes.items():
        for deployment in route.every_deployment:
            name = f"{deployment.provider}/{deployment.model}"
            if name not in seen and (fate := _fate(resolved, deployment, today)):
                seen.add(name)
                yield f"model {alias}: {name} {fate}"


def _fate(resolved: Resolved, deployment: DeploymentPlan, today: date) -> str:
    day = retirement(resolved, deployment)
    if day is None:
        unknown = _is_unlisted(resolved.providers[deployment.provider], deployment.model)
        return "is in no list of its provider's models; look whether it is switched off, or misspelt" if unknown else ""
    if (day - today).days > WARNING_DAYS:
        return ""
    when = f"was switched off on {day}" if day <= today else f"will be switched off on {day}"
    return f"{when} by its provider; choose another"


def _is_unlisted(entry: OpenAISettings | LiteLLMSettings | LlamaCppSettings, model: str) -> bool:
    """Tell whether nobody knows a model of a provider whose models are known, asked at the provider's own address."""
    prefix = map_name(entry)
    if not isinstance(entry, OpenAISettings | LiteLLMSettings) or prefix is None or _is_own(prefix, model):
        return False
    own = entry.models.get(model)
    if own is not None and own.model_fields_set - _LIMITS:
        return False
    is_known = any(look_up(prefix, name) is not None for name in _listed_names(model))
    return not is_known and lists(prefix) and _is_at_home(entry)


def _is_own(prefix: str, model: str) -> bool:
    """Tell whether an account made a name up, or stands before it in place of an organisation that is known there."""
    owner, slash, _ = model.partition("/")
    return _OWN_NAME.match(model) is not None or (bool(slash) and not lists(f"{prefix}/{owner}"))


def _listed_names(model: str) -> tuple[str, ...]:
    """Return the names under which a list may have a model: its own, without its region, and what it was made of."""
    tuned = _TUNED.match(model)
    return (model, _REGION.sub("", model, count=1), *((tuned[0], tuned[1]) if tuned else ()))


def _is_at_home(entry: OpenAISettings | LiteLLMSettings) -> bool:
    if isinstance(entry, LiteLLMSettings):
        return entry.base_url is None and entry.prefix not in _NAMED_BY_ACCOUNTS
    found = (presets.read_preset(name) for name in presets.preset_names())
    return any(preset is not None and preset.base_url == entry.base_url for preset in found)


def retirement(resolved: Resolved, deployment: DeploymentPlan) -> date | None:
    """Return the day on which a deployment's model is switched off, None where none is known."""
    facts = known_facts(resolved, deployment)
    return facts.retires if facts else None


def known_facts(resolved: Resolved, deployment: DeploymentPlan) -> ModelFacts | None:
    """Return what the configuration and the presets say of a deployment's model, and litellm's price map of the rest."""
    entry = resolved.providers[deployment.provider]
    if not isinstance(entry, HostedSettings):
        return None
    listed = listed_facts(entry, deployment.model)
    own = entry.models.get(deployment.model)
    if own is None or listed is None:
        return own or listed
    return listed.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
