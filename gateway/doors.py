"""Doors that open one name at a time.

The parent process reads the configuration, which needs the settings of every room and nothing else of it; importing
whole rooms for that would double the time to the first answer (bench/design.md). What a door offers stands in its room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` that imports the module of a name when the name is first asked for."""

    def find(name: str) -> Any:
        module = names.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module}"), name)

    return find
