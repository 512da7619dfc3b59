"""From turns to ratios: pure arithmetic.

The machine is noisy, and its noise comes in bursts longer than a slice of some ten milliseconds. So the systems take
turns, the ratio is taken within each turn, and the median over many turns is the figure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the interval in which the true one lies with 95 %."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median with its interval by order statistics, which asks nothing of the noise's shape.

    Raises ValueError for no values. With fewer than six the interval is all there is, and less sure.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    count = len(ordered)
    reach = 0.98 * math.sqrt(count)  # 1.96 standard deviations of a binomial with p = 1/2
    low = max(0, math.floor(count / 2 - reach))
    high = min(count - 1, math.ceil(count / 2 + reach))
    return Spread(statistics.median(ordered), ordered[low], ordered[high])


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return value over base, turn by turn; raises ValueError when the turns do not match."""
    return [value / other for value, other in zip(values, base, strict=True)]


def turn(ones: Sequence[T], number: int) -> list[T]:
    """Return the order of turn `number`: every other one backwards, so that nobody always goes first."""
    return list(ones) if number % 2 == 0 else list(reversed(ones))


def keep(values: Sequence[float], flags: Sequence[bool]) -> list[float]:
    """Return the values whose flag is set; raises ValueError when there are not as many flags."""
    return [value for value, flag in zip(values, flags, strict=True) if flag]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope through (x, y) points; 0.0 when there are fewer than two different x."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
