"""Whether what a provider needs beyond the core is installed, found out without importing it."""

from __future__ import annotations

from importlib.util import find_spec

INSTALL_LITELLM = "pip install 'one-gateway[litellm]'"


def why_unavailable() -> str:
    """Return what to do for litellm to be there, "" if it is."""
    try:
        is_there = find_spec("litellm") is not None
    except ValueError:  # somebody put None in its place
        is_there = False
    return "" if is_there else INSTALL_LITELLM
