"""The shape of the configuration file, and the checked Config that it becomes.

Each room's Settings are its own; here they are only put together.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.auth import AuthSettings
from gateway.cache import EmbeddingsSettings, RedisSettings
from gateway.config.accepted import StoreSettings
from gateway.http import ServerSettings
from gateway.providers import HostedSettings, LiteLLMSettings, LlamaCppSettings, OpenAISettings
from gateway.routing import FailoverSettings, RouteSettings

CLASSES = ("small", "medium", "large", "embedding", "image")

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of providers, and of models on this machine
NAME_EXPECTED = "expected a name that begins with a letter or digit and has no spaces or other signs than ._-"

_SECRET_OPTION = re.compile(r"key|secret|token|credentials|password")

ProviderName = Annotated[str, Field(pattern=NAME_PATTERN)]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]
ProviderEntry = Annotated[OpenAISettings | LiteLLMSettings | LlamaCppSettings, Field(discriminator="kind")]


class Document(BaseModel):
    """The gateway's configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    providers: Annotated[
        dict[ProviderName, ProviderEntry], Field(min_length=1, description="In the order of preference.")
    ]
    models: Annotated[
        dict[Alias, RouteSettings],
        Field(description="Names callers may send, besides the classes of the providers; what stands here wins."),
    ] = {}
    failover: FailoverSettings = FailoverSettings()
    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    redis: RedisSettings = RedisSettings()
    store: StoreSettings = StoreSettings()


class Config(Document):
    """A checked configuration: variables filled in, presets applied, paths absolute.

    `off` has the providers that are switched off and why. `notes` and `warnings` are lines for the operator.
    `refused` are lines on providers that cannot run because something is not installed; they are off.
    """

    file: str
    off: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def secrets(self) -> list[str]:
        """Return every text that must not be seen in a log or an answer."""
        found = [key.key for key in self.auth.keys]
        for provider in self.providers.values():
            if isinstance(provider, HostedSettings):
                found += [provider.api_key, *provider.headers.values()]
            if isinstance(provider, LiteLLMSettings):
                found += [value for name, value in provider.options.items() if _SECRET_OPTION.search(name)]
        found += [url for url in (self.redis.url, self.store.url) if isinstance(url, SecretStr)]
        return [text for secret in found if (text := secret.get_secret_value())]
