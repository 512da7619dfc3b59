"""Whether what a provider needs beyond the core is installed, found out without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

INSTALL_LITELLM = "pip install 'one-gateway[litellm]'"
# litellm installs neither by itself: the one fetches Google's tokens, the other signs what Amazon is asked.
_ALSO_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"vertex_ai": ("google.auth", "requests"), "bedrock": ("boto3", "botocore")}
)


def why_unavailable(prefix: str = "") -> str:
    """Return what to do for litellm and what its provider `prefix` needs to be there, "" if they are."""
    if not _is_there("litellm"):
        return INSTALL_LITELLM
    missing = [name for name in _ALSO_NEEDED.get(prefix, ()) if not _is_there(name)]
    return f"{INSTALL_LITELLM} ({missing[0]} is missing)" if missing else ""


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # there is no package around it, or somebody put None in its place
        return False
