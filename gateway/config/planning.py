"""One deployment with every default filled in: what it is told, how long it may take, what is known of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.call import Endpoint
from gateway.providers import HostedSettings, LlamaCppSettings, ModelFacts, OpenAISettings
from gateway.routing import DeploymentPlan, DeploymentSettings, TimeoutSettings

_UNWRITTEN = DeploymentSettings(provider="-", model="-")


def plan_deployment(
    provider: str,
    entry: HostedSettings | LlamaCppSettings,
    model: str,
    written: DeploymentSettings = _UNWRITTEN,
    timeouts: TimeoutSettings = TimeoutSettings(),  # noqa: B008  frozen
) -> DeploymentPlan:
    """Return the plan of one model of a provider; `written` is what the configuration says of this deployment."""
    facts = facts_of(entry, model)
    known = facts or ModelFacts()
    common = entry.refuses if isinstance(entry, HostedSettings) else ()
    return DeploymentPlan(
        provider=provider,
        model=model,
        settings=settings_of(entry, model, written.settings),
        timeouts=timeouts.with_overrides(written.timeouts),
        facts=facts,
        context_window=written.context_window or known.context_window,
        max_output_tokens=written.max_output_tokens or known.max_output_tokens,
        token_field=entry.token_field if isinstance(entry, OpenAISettings) else None,
        refuses=frozenset((*common, *known.refuses)),
        drop_params=written.drop_params,
        allowed_extra=frozenset(written.allowed_extra),
        weight=written.weight,
    )


def facts_of(entry: HostedSettings | LlamaCppSettings, model: str) -> ModelFacts | None:
    """Return what is known of a model; the limits of a whole provider are those of its class models."""
    if isinstance(entry, HostedSettings):
        if model in entry.models:
            return entry.models[model]
        if model not in entry.classes.values():
            return None
    if entry.max_input_tokens is None and entry.max_output_tokens is None:
        return None
    return ModelFacts(context_window=entry.max_input_tokens, max_output_tokens=entry.max_output_tokens)


def settings_of(
    entry: HostedSettings | LlamaCppSettings, model: str, written: Mapping[str, Any]
) -> dict[Endpoint, Mapping[str, Any]]:
    """Return the fields that fill in what a request leaves out, by endpoint.

    A provider's are about text or about images; what is written for a deployment goes wherever it is asked.
    """
    text = {**_sendable(entry.settings), **written}
    images = _sendable(entry.image_settings) if isinstance(entry, HostedSettings) else {}
    return {
        "chat/completions": text,
        "completions": text,
        "embeddings": dict(written),
        "images/generations": {**images, **written},
    }


def _sendable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out settings that say nothing: no stop words, and a repetition penalty of 0, which upstreams refuse."""
    return {
        name: value
        for name, value in settings.items()
        if value is not None and value != [] and not (name == "repetition_penalty" and value == 0)
    }
