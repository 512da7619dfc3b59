"""How much the embeddings of one request may be, by what the makers of the wires that litellm speaks say of it.

What speaks OpenAI's wire has its limits in its preset. A limit that is not known is none: the far side says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from gateway.providers.settings import HostedSettings, LiteLLMSettings, LlamaCppSettings


class BatchLimits(NamedTuple):
    """The most inputs of one request, and the most tokens of them together; None where nothing is known."""

    max_batch_inputs: int | None = None
    max_batch_tokens: int | None = None


_NONE = BatchLimits()
# What is said of Azure (learn.microsoft.com/azure/foundry/reference/rest) and of Vertex AI (cloud.google.com/vertex-ai/
# generative-ai/docs/embeddings) was read there on 2026-11-21. The others are as libraries keep to them: OpenAI's 2,048 and
# 300,000, Gemini's 100, Cohere's 96, Voyage's for its larger models, Titan's one; Mistral's are from its refusals, "Too many
# tokens in batch. Max is 16384". One that is too small costs a request more, one that is too large is refused: write
# max_batch_inputs and max_batch_tokens then.
_OF_PREFIX: Mapping[str, BatchLimits] = MappingProxyType(
    {
        "azure": BatchLimits(2048, 300_000),
        "cohere": BatchLimits(96),
        "gemini": BatchLimits(100),
        "mistral": BatchLimits(256, 16_384),
        "openai": BatchLimits(2048, 300_000),
        "vertex_ai": BatchLimits(250, 20_000),
        "voyage": BatchLimits(1000, 120_000),
    }
)
_OF_MODELS: Mapping[tuple[str, str], BatchLimits] = MappingProxyType(
    {
        ("bedrock", "amazon.titan-embed"): BatchLimits(1),
        ("bedrock", "cohere.embed"): BatchLimits(96),
        ("vertex_ai", "gemini-embedding"): BatchLimits(1, 20_000),
    }
)


def batch_limits(entry: HostedSettings | LlamaCppSettings, model: str) -> BatchLimits:
    """Return the limits of a provider's model, as far as they are not written of the model itself."""
    if not isinstance(entry, HostedSettings):
        return _NONE
    known = _known(entry.prefix, model) if isinstance(entry, LiteLLMSettings) else _NONE
    return BatchLimits(
        entry.max_batch_inputs or known.max_batch_inputs, entry.max_batch_tokens or known.max_batch_tokens
    )


def _known(prefix: str, model: str) -> BatchLimits:
    found = (limits for (wire, name), limits in _OF_MODELS.items() if wire == prefix and model.startswith(name))
    return next(found, _OF_PREFIX.get(prefix, _NONE))
