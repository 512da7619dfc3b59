"""How far the fetching of a model is, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Step:
    """`finished` and `total` are bytes; `total` is 0 where nobody knows."""

    name: str
    phase: Literal["waiting", "downloading", "unpacking", "converting", "checking", "ready"]
    finished: int = 0
    total: int = 0


Progress = Callable[[Step], None]


def silent(_step: Step) -> None:
    """Show nothing."""
