"""From rounds to ratios: pure arithmetic.

The machine is noisy, and its noise lasts longer than a round. So each round measures every system once, one right
after the other, and the ratio is taken within the round; the median over the rounds is the figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the middle half of what it was taken from."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; raises ValueError for no values."""
    if not values:
        raise ValueError("no rounds were measured")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return value over base, round by round; raises ValueError when the rounds do not match."""
    return [value / other for value, other in zip(values, base, strict=True)]


def turn(names: Sequence[str], number: int) -> list[str]:
    """Return the order of round `number`: every other one backwards, so that nobody always goes first."""
    return list(names) if number % 2 == 0 else list(reversed(names))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope through (x, y) points; 0.0 when there are fewer than two different x."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def microseconds(rounds: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    """Return each system's processor seconds per request as microseconds."""
    return {name: spread([value * 1e6 for value in values]) for name, values in rounds.items()}
