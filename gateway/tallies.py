"""Counters and histograms that gather many observations before the library's own take them.

An update of one of the library's costs a lock, and with several processes a write to a mapped file. Here it is an
addition; `Tallies.settle` brings the library's figures up to date once for many requests (bench/design.md).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Protocol

from prometheus_client import Counter, Histogram


class _Gathered(Protocol):
    def settle(self) -> None: ...


class Tallies:
    """Everything that was observed and is not yet in the library's figures."""

    def __init__(self) -> None:
        self._changed: set[_Gathered] = set()

    def counter(self, counter: Counter) -> Tally:
        return Tally(counter, self._changed)

    def histogram(self, histogram: Histogram) -> Spread:
        return Spread(histogram, self._changed)

    def settle(self) -> None:
        """Bring the library's figures up to date."""
        for gathered in self._changed:
            gathered.settle()
        self._changed.clear()


class Tally:
    """One series of a counter."""

    __slots__ = ("_amount", "_changed", "_counter")

    def __init__(self, counter: Counter, changed: set[_Gathered]) -> None:
        self._counter = counter
        self._changed = changed
        self._amount = 0.0

    def add(self, amount: float = 1) -> None:
        self._amount += amount
        self._changed.add(self)

    def settle(self) -> None:
        self._counter.inc(self._amount)
        self._amount = 0.0


class Spread:
    """One series of a histogram. The library offers no way to add many at once, so its own sums are added to."""

    __slots__ = ("_bounds", "_changed", "_counts", "_histogram", "_total")

    def __init__(self, histogram: Histogram, changed: set[_Gathered]) -> None:
        self._histogram = histogram
        self._changed = changed
        self._bounds = histogram._upper_bounds
        self._counts = [0] * len(self._bounds)
        self._total = 0.0

    def observe(self, amount: float) -> None:
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._total += amount
        self._changed.add(self)

    def settle(self) -> None:
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(self._total)
        self._counts = [0] * len(self._bounds)
        self._total = 0.0
