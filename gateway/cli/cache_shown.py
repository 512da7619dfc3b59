"""How `gateway cache` tells what is remembered, and who counts for it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MIB = 1024 * 1024


class Counted:
    """Counts what a command must tell: what could not be written, and what made room."""

    def __init__(self) -> None:
        self.failures = 0
        self.evicted_for_room = 0

    def looked_up(self, tier: str, hits: int, misses: int) -> None: ...
    def is_up(self, tier: str, *, up: bool) -> None: ...
    def damaged(self, tier: str, what: str) -> None: ...

    def evicted(self, tier: str, entries: int, reason: str) -> None:
        if (tier, reason) == ("disk", "size"):
            self.evicted_for_room += entries

    def failed(self, tier: str, operation: str) -> None:
        if (tier, operation) == ("disk", "write"):
            self.failures += 1


def lines_of_report(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for `Tiers.report`."""
    if not report["tiers"]:
        yield "nothing is remembered beyond the memory of each process"
    for tier in report["tiers"]:
        yield f"{tier['tier']}: {_of_tier(tier)}"
    models = report["models"] or ()
    if models:
        yield "models:"
    for model in models:
        yield f"  {model['model']}: {number_of(model['entries'], 'entry', 'entries')}, {_megabytes(model['bytes'])}"


def number_of(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _of_tier(tier: dict[str, Any]) -> str:
    words = [] if tier["entries"] is None else [number_of(tier["entries"], "entry", "entries")]
    if tier["bytes"] is not None:
        most = f" of at most {_megabytes(tier['max_bytes'])}" if tier["max_bytes"] else ""
        words.append(f"{_megabytes(tier['bytes'])}{most}")
    if tier["trouble"]:
        words.append(tier["trouble"])
    return ", ".join(words) or "answers"


def _megabytes(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
