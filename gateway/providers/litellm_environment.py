"""What litellm, and what it calls, sees of the process's environment while it works: next to nothing.

Left to itself it completes a call from dozens of variables: keys, which would go to whatever `base_url` a deployment
names, and addresses, to which the deployment's key would go. A call is what the configuration says and nothing else.
Which variables a configuration may name is known in `config/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from gateway.providers.settings import HostedSettings, LiteLLMSettings

# Said to every call: whoever looks for an account on this machine finds none, and asks no cloud's metadata service.
_SAID: Mapping[str, str] = MappingProxyType(
    {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "CLOUDSDK_CONFIG": os.devnull,
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_LOCAL_BLOG_POSTS": "True",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else a price list is fetched from the network
        "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",  # else any .env of the working directory is loaded
        "LITELLM_TELEMETRY": "False",
        "NO_GCE_CHECK": "true",
    }
)
# Seen as they are: where things lie on this machine. The tokenizer's folder is written by litellm itself.
_SHOWN = frozenset({"HOME", "LANG", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TIKTOKEN_CACHE_DIR", "TMPDIR", "TZ"})
# The accounts of this machine, for those that can do with them and whose configuration names neither an account nor
# an address. Addresses are in none of them.
_AWS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
_GOOGLE = ("CLOUDSDK_CONFIG", "GOOGLE_APPLICATION_CREDENTIALS")
_ACCOUNTS: Mapping[str, tuple[str, ...]] = MappingProxyType({"bedrock": _AWS, "vertex_ai": _GOOGLE})
_TELLS_ACCOUNT = frozenset(
    {"aws_access_key_id", "aws_profile_name", "aws_role_name", "aws_web_identity_token", "vertex_credentials"}
)

_view: ContextVar[frozenset[str] | None] = ContextVar("_view", default=None)


def account_variables(settings: LiteLLMSettings) -> frozenset[str]:
    """Return the names of the variables that lead to an account of this machine: none unless no other is told."""
    is_told = settings.base_url is not None or settings.api_key.get_secret_value()
    if is_told or settings.options.keys() & _TELLS_ACCOUNT:
        return frozenset()
    return frozenset(_ACCOUNTS.get(settings.prefix, ()))


def key_source(settings: HostedSettings) -> str:
    """Say in words where the key of a provider is from."""
    if settings.api_key.get_secret_value():
        return "with a key"
    if isinstance(settings, LiteLLMSettings):
        if settings.options.keys() & _TELLS_ACCOUNT:
            return "with the account in its options"
        if account_variables(settings):
            return "with the account of this machine"
    return "without a key"


@contextmanager
def unseen(but: frozenset[str] = frozenset()) -> Iterator[None]:
    """Hide the environment, all `but` these variables, from the task at hand and what it starts, after `install`."""
    token = _view.set(but)
    try:
        yield
    finally:
        _view.reset(token)


def install() -> None:
    """Let the environment be hidden; who hides it from nobody sees it as before."""
    if type(os.environ) is not _Environment:
        os.environ.__class__ = _Environment  # whoever keeps a reference to the mapping has this very one


class _Environment(type(os.environ)):  # type: ignore[misc]  # it has no public name
    """The process's environment, of which the task at hand may see a part only; what is written is written."""

    def __getitem__(self, name: str) -> str:
        view = _view.get()
        if view is None or name in view or name in _SHOWN:
            return str(super().__getitem__(name))
        return _SAID[name]

    def __iter__(self) -> Iterator[str]:
        names = list(super().__iter__())
        return iter(names if _view.get() is None else [name for name in {*names, *_SAID} if name in self])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def setdefault(self, name: str, value: str) -> str:
        if name not in self:
            self[name] = value
        return self.get(name) or value
