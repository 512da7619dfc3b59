"""Styles of writing and the choice of a class by what a task needs: plain tables, from the callers' point of view."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import InvalidRequest

STYLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "creative": {"temperature": 0.8, "frequency_penalty": 0.7, "presence_penalty": 0.7},
        "balanced": {"temperature": 0.5, "frequency_penalty": 0.3, "presence_penalty": 0.3},
        "precise": {"temperature": 0.2, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    }
)


def check_style(name: str) -> str:
    """Return the name of a style; raises InvalidRequest for any other word."""
    word = name.strip().lower()
    if word and word not in STYLES:
        raise InvalidRequest(
            f"Invalid value for 'x-gateway-style': expected one of {', '.join(STYLES)}.",
            param="x-gateway-style",
            code="invalid_value",
        )
    return word


def split_style(alias: str) -> tuple[str, str]:
    """Return the alias and the style of a name such as `small:precise`; "" where it names none."""
    name, colon, style = alias.rpartition(":")
    return (name, style) if colon and name and style in STYLES else (alias, "")


def choose_class(speed: object, complexity: object) -> str:
    """Return the class for a task: fast ones go to `small`, complex ones to `large`, all others to `medium`."""
    if speed == "fast":
        return "small"
    return "large" if complexity == "high" else "medium"
