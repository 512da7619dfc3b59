"""How much one request for embeddings may be, for each provider."""

from __future__ import annotations

import pytest

from gateway.providers import HostedSettings, LiteLLMSettings, LlamaCppSettings, OpenAISettings, batch_limits

NOWHERE = "https://value.invalid/v1"


@pytest.mark.parametrize(
    ("prefix", "model", "inputs", "tokens"),
    [
        ("azure", "text-embedding-3-small", 2048, 300_000),
        ("bedrock", "amazon.titan-embed-text-v2:0", 1, None),
        ("bedrock", "cohere.embed-multilingual-v3", 96, None),
        ("bedrock", "another.model", None, None),
        ("cohere", "embed-v4.0", 96, None),
        ("gemini", "gemini-embedding-2", 100, None),
        ("mistral", "mistral-embed", 256, 16_384),
        ("vertex_ai", "gemini-embedding-001", 1, 20_000),
        ("vertex_ai", "text-embedding-005", 250, 20_000),
        ("voyage", "voyage-3-large", 1000, 120_000),
        ("jina_ai", "jina-embeddings-v4", None, None),
    ],
)
def test_what_litellm_speaks_to_has_the_limits_of_its_maker(
    prefix: str, model: str, inputs: int | None, tokens: int | None
) -> None:
    assert batch_limits(LiteLLMSettings(kind="litellm", prefix=prefix), model) == (inputs, tokens)


def test_what_is_written_of_a_provider_comes_before_what_is_known() -> None:
    entry = LiteLLMSettings(kind="litellm", prefix="mistral", max_batch_inputs=8)

    assert batch_limits(entry, "mistral-embed") == (8, 16_384)


@pytest.mark.parametrize(
    "entry", [OpenAISettings(base_url=NOWHERE), LlamaCppSettings.model_validate({"kind": "llamacpp"})]
)
def test_elsewhere_there_is_no_limit(entry: HostedSettings | LlamaCppSettings) -> None:
    assert batch_limits(entry, "m") == (None, None)
