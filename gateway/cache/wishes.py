"""What a caller wants of the cache for one request, by header or by body, in the words of HTTP and of other gateways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest

HEADER, FIELD = "x-gateway-cache", "cache"
_SWITCHES = ("no-cache", "no-store", "only-if-cached")
_SECONDS = ("ttl", "s-maxage")
_EXPECTED = f"Expected {', '.join(_SWITCHES)}, {' and '.join(f'{name} in seconds' for name in _SECONDS)}."
_LONGEST = 315_360_000  # ten years, as long as a tier may be told to keep anything


@dataclass(frozen=True, slots=True)
class Wishes:
    """`ttl` and `newer_than` are seconds: how long the answer may be kept, and how old a remembered one may be."""

    reads: bool = True
    stores: bool = True
    only_cached: bool = False
    ttl: int | None = None
    newer_than: int | None = None


NO_WISHES = Wishes()


def read_wishes(header: str | None, field: Any) -> Wishes:
    """Return the wishes of the header's text and the body's object, where the header wins; raises InvalidRequest."""
    if header is None and field is None:
        return NO_WISHES
    told = _of_field(field) if field is not None else {}
    if header is not None:
        told |= _of_header(header)
    if told.get("no-cache") and told.get("only-if-cached"):
        raise _mistake("'no-cache' and 'only-if-cached' leave nothing to answer with.")
    return Wishes(
        reads=not told.get("no-cache", False),
        stores=not told.get("no-store", False),
        only_cached=bool(told.get("only-if-cached", False)),
        ttl=told.get("ttl"),
        newer_than=told.get("s-maxage"),
    )


def _of_header(text: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for word in filter(None, (part.strip().lower() for part in text.split(","))):
        name, equals, value = (part.strip() for part in word.partition("="))
        if name in _SWITCHES and not equals:
            told[name] = True
        elif name in _SECONDS and value.isascii() and value.isdecimal() and len(value) < 12:
            told[name] = _seconds(name, int(value))
        else:
            raise _mistake(f"'{word[:100]}' in {HEADER} is not understood.")
    return told


def _of_field(field: Any) -> dict[str, Any]:
    if not isinstance(field, Mapping):
        raise _mistake("'cache' must be an object.")
    told: dict[str, Any] = {}
    for name, value in field.items():
        if name in _SWITCHES and isinstance(value, bool):
            told[name] = value
        elif name in _SECONDS and type(value) is int:
            told[name] = _seconds(name, value)
        else:
            raise _mistake(f"'{name[:100]}' of 'cache' is not understood, or not with this value.")
    return told


def _seconds(name: str, value: int) -> int:
    if not 1 <= value <= _LONGEST:
        raise _mistake(f"'{name}' must be between 1 and {_LONGEST} seconds.")
    return value


def _mistake(sentence: str) -> InvalidRequest:
    return InvalidRequest(f"{sentence} {_EXPECTED}", param=FIELD, code="invalid_value")
