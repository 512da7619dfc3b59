"""One deployment with every default filled in: what it is told, how long it may take, what is known of its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.call import Endpoint
from gateway.config.revisions import revision_of
from gateway.providers import (
    HostedSettings,
    LiteLLMSettings,
    LlamaCppSettings,
    ModelFacts,
    OpenAISettings,
    batch_limits,
    look_up,
)
from gateway.routing import DeploymentPlan, DeploymentSettings, TimeoutSettings

LOCAL_WINDOW = 8192  # what a local model gets that is not told, if it was trained for as much
_UNWRITTEN = DeploymentSettings(provider="-", model="-")
_NOWHERE = Path("models")


def plan_deployment(
    provider: str,
    entry: HostedSettings | LlamaCppSettings,
    model: str,
    written: DeploymentSettings = _UNWRITTEN,
    timeouts: TimeoutSettings = TimeoutSettings(),  # noqa: B008  frozen
    models_dir: Path = _NOWHERE,
) -> DeploymentPlan:
    """Return the plan of one model of a provider; `written` is what the configuration says of this deployment.

    Models that were added are known in `models_dir`.
    """
    facts = facts_of(entry, model)
    known = facts or ModelFacts()
    limits = batch_limits(entry, model)
    return DeploymentPlan(
        provider=provider,
        model=model,
        settings=settings_of(entry, model, written.settings),
        timeouts=timeouts.with_overrides(written.timeouts),
        facts=facts,
        context_window=written.context_window or known.context_window,
        max_output_tokens=least(written.max_output_tokens, known.max_output_tokens),
        token_field=entry.token_field if isinstance(entry, OpenAISettings) else None,
        refuses=frozenset(refused_by(entry, model)),
        drop_params=written.drop_params,
        allowed_extra=frozenset(written.allowed_extra),
        weight=written.weight,
        dimensions=written.dimensions,
        max_batch_inputs=written.max_batch_inputs or known.max_batch_inputs or limits.max_batch_inputs,
        max_batch_tokens=written.max_batch_tokens or known.max_batch_tokens or limits.max_batch_tokens,
        revision=f"{revision_of(entry, model, models_dir)} {written.revision}".strip(),
    )


def facts_of(entry: HostedSettings | LlamaCppSettings, model: str) -> ModelFacts | None:
    """Return what is known of a model, within the limits of its provider."""
    facts = entry.models.get(model) if isinstance(entry, HostedSettings) else _local_facts(entry, model)
    if entry.max_input_tokens is None and entry.max_output_tokens is None:
        return facts
    facts = facts or ModelFacts()
    return facts.model_copy(
        update={
            "context_window": least(entry.max_input_tokens, facts.context_window),
            "max_output_tokens": least(entry.max_output_tokens, facts.max_output_tokens),
        }
    )


def listed_facts(entry: HostedSettings | LlamaCppSettings, model: str) -> ModelFacts | None:
    """Return what litellm's price map says of a model, None where its provider has no map or the map has not it."""
    prefix = map_name(entry)
    return look_up(prefix, model) if prefix else None


def map_name(entry: HostedSettings | LlamaCppSettings) -> str | None:
    """Return what a provider is called in litellm's price map."""
    if isinstance(entry, LiteLLMSettings):
        return entry.prefix
    return entry.price_map if isinstance(entry, HostedSettings) else None


def refused_by(entry: HostedSettings | LlamaCppSettings, model: str) -> tuple[str, ...]:
    """Return the request fields that a model refuses: what is written of it, else what the price map says.

    The map is asked for litellm's providers only, where litellm itself refuses them; others say it when they are asked.
    """
    if not isinstance(entry, HostedSettings):
        return ()
    own = entry.models.get(model)
    if isinstance(entry, LiteLLMSettings) and (own is None or "refuses" not in own.model_fields_set):
        own = listed_facts(entry, model)
    return (*entry.refuses, *(own.refuses if own else ()))


def _local_facts(entry: LlamaCppSettings, model: str) -> ModelFacts | None:
    settings = entry.models.get(model)
    if settings is None or (settings.context_window is None and entry.max_input_tokens is None):
        return None  # what the file was trained for is known to its process only
    return ModelFacts(context_window=settings.context_window or LOCAL_WINDOW)


def least(*limits: int | None) -> int | None:
    """Return the smallest of the limits that there are."""
    return min((limit for limit in limits if limit is not None), default=None)


def settings_of(
    entry: HostedSettings | LlamaCppSettings, model: str, written: Mapping[str, Any]
) -> dict[Endpoint, Mapping[str, Any]]:
    """Return the fields that fill in what a request leaves out, by endpoint.

    A provider's are about text or about images; what is written for a deployment goes wherever it is asked.
    """
    text = _sendable({**entry.settings, **written})
    images = entry.image_settings if isinstance(entry, HostedSettings) else {}
    return {
        "chat/completions": text,
        "completions": text,
        "embeddings": _sendable(written),
        "images/generations": _sendable({**images, **written}),
        "rerank": _sendable(written),
    }


def _sendable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out settings that say nothing: no stop words, and a repetition penalty of 0, which upstreams refuse."""
    return {
        name: value
        for name, value in settings.items()
        if value is not None and value != [] and not (name == "repetition_penalty" and value == 0)
    }
