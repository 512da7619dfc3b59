"""What the configuration may say of a provider."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

ModelClass = Literal["small", "medium", "large", "embedding", "image"]
Scalar = str | int | float | bool


class ProviderSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OpenAISettings(ProviderSettings):
    """An upstream that speaks the OpenAI wire over HTTP."""

    kind: Literal["openai"] = "openai"
    base_url: Annotated[HttpUrl, Field(description="Everything before /chat/completions, usually ending in /v1.")]
    api_key: Annotated[
        SecretStr, Field(description="Sent as a bearer token; may be empty for servers that ask for none.")
    ] = SecretStr("")
    headers: Annotated[
        dict[str, SecretStr], Field(description="Further request headers, e.g. OpenAI-Organization.")
    ] = {}
    classes: Annotated[dict[ModelClass, str], Field(description="The upstream model that serves each class.")] = {}
    settings: Annotated[
        dict[str, Scalar | list[str]], Field(description="Request fields sent when the caller left them out.")
    ] = {}


class LocalModelSettings(ProviderSettings):
    """One GGUF model, run in a llama.cpp process of its own."""

    path: Annotated[str | None, Field(description="The GGUF file; without it the packaged model of this name.")] = None
    classes: Annotated[tuple[ModelClass, ...], Field(description="The classes this model serves.")] = ()
    embedding: Annotated[bool, Field(description="Serve embeddings instead of text.")] = False
    context_window: Annotated[
        int | None, Field(ge=16, description="Tokens; default: what the model was trained for, at most 8192.")
    ] = None
    threads: Annotated[int | None, Field(ge=1, le=1024, description="Default: one less than the machine's cores.")] = (
        None
    )
    parallel: Annotated[int, Field(ge=1, le=256, description="Requests that decode together.")] = 4


def _packaged_defaults() -> dict[str, LocalModelSettings]:
    return {
        "smollm2": LocalModelSettings(classes=("small", "medium", "large")),
        "minilm": LocalModelSettings(classes=("embedding",), embedding=True),
    }


class LlamaCppSettings(ProviderSettings):
    """GGUF models on this machine; by default the two that `gateway models add smollm2 minilm` fetches."""

    kind: Literal["llamacpp"]
    engine: Annotated[Literal["auto", "xllamacpp"], Field(description="Which llama.cpp binding runs the models.")] = (
        "auto"
    )
    models: Annotated[dict[str, LocalModelSettings], Field(default_factory=_packaged_defaults, min_length=1)]
