"""Who is calling: API keys are known by their SHA-256 digest only.

Where the key stands in a request is `http/`'s concern.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.call import EVERY_MODEL, Caller, Role
from gateway.errors import Unauthenticated

Count = Annotated[int, Field(ge=1)]


class KeySettings(BaseModel):
    """One API key of the configuration and what its holder may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, description="Shown in logs and metrics instead of the key.")]
    key: Annotated[
        SecretStr, Field(min_length=1, description="The key itself, usually from the environment: ${APP_KEY}.")
    ]
    role: Annotated[
        Role, Field(description="user calls models; viewer may only list and read metrics; admin may both.")
    ] = "user"
    models: Annotated[
        tuple[str, ...], Field(min_length=1, description='Aliases this key may use; ["*"] for every one.')
    ] = (EVERY_MODEL,)
    requests_per_minute: Annotated[Count | None, Field(description="Not enforced by this version.")] = None
    tokens_per_minute: Annotated[Count | None, Field(description="Not enforced by this version.")] = None
    concurrent_requests: Annotated[Count | None, Field(description="Not enforced by this version.")] = None
    usd_per_day: Annotated[float | None, Field(gt=0, description="Not enforced by this version.")] = None


class AuthSettings(BaseModel):
    """The keys; with none the gateway is open and stays on loopback."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeySettings, ...] = ()


class KeyRing:
    """Tells the caller behind a token."""

    def __init__(self, keys: Iterable[KeySettings]) -> None:
        # Keys filled from files often end in a newline; no header could bring that back.
        self._callers = {
            sha256(key.key.get_secret_value().strip().encode()).digest(): Caller(
                key.name, key.role, frozenset(key.models)
            )
            for key in keys
        }
        self._anyone = None if self._callers else Caller("anonymous", "admin")

    def identify(self, token: str | None) -> Caller:
        """Return the caller that holds `token`.

        The lookup is by the full digest, so its time tells nothing about how much of a key was right.
        Raises Unauthenticated in the wording that client libraries look for.
        """
        if self._anyone is not None:
            return self._anyone
        if not token:
            raise Unauthenticated(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
        caller = self._callers.get(sha256(token.encode("utf-8", "surrogateescape")).digest())
        if caller is None:
            raise Unauthenticated("Incorrect API key provided.")
        return caller
