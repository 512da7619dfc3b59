"""The figures of remembered embeddings, on the same page as all others.

What a tier is lives in `cache/`; here it is a name. Look-ups are added up as in `tallies.py`, and given to the library
about once a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.tallies import Tallies, Tally

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_OF_EACH_PROCESS = "memory"  # all other tiers are one and the same for all worker processes
_ONLY_ON_OR_OFF = "redis"


class Sized(Protocol):
    """What one tier holds, in entries and bytes; None where nobody knows."""

    @property
    def name(self) -> str: ...
    @property
    def entries(self) -> int | None: ...
    @property
    def size(self) -> int | None: ...


class CacheMetrics:
    """All figures of one process; `registry` is what the page is made of."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._lookups = Counter(
            "gateway_embedding_cache_lookups",
            "Inputs looked for in a tier, by whether it had them.",
            ["tier", "outcome"],
            registry=registry,
        )
        self._evictions = Counter(
            "gateway_embedding_cache_evictions",
            "Entries dropped because there was no room for them or their time was over.",
            ["tier", "reason"],
            registry=registry,
        )
        self._errors = Counter(
            "gateway_embedding_cache_errors",
            "Reads and writes that did not come about.",
            ["tier", "operation"],
            registry=registry,
        )
        self._damaged = Counter(
            "gateway_embedding_cache_damaged",
            "Entries, files and replies that were not what had been written.",
            ["tier", "what"],
            registry=registry,
        )
        self._bytes = self._gauge("gateway_embedding_cache_bytes", "Bytes that a tier takes.")
        self._entries = self._gauge("gateway_embedding_cache_entries", "Entries that a tier holds.")
        self._up: Gauge | None = None  # none without a Redis: a 0 would read as one that is down
        self._tallies = Tallies()
        self._series: dict[tuple[str, str, str], Tally] = {}

    def looked_up(self, tier: str, hits: int, misses: int) -> None:
        """Count inputs that were looked for."""
        if hits:
            self._tally(self._lookups, tier, "hit").add(hits)
        if misses:
            self._tally(self._lookups, tier, "miss").add(misses)

    def evicted(self, tier: str, entries: int, reason: str) -> None:
        """Count entries that were dropped: `size` or `expired`."""
        self._tally(self._evictions, tier, reason).add(entries)

    def failed(self, tier: str, operation: str) -> None:
        """Count a `read` or a `write` that did not come about."""
        self._tally(self._errors, tier, operation).add()

    def damaged(self, tier: str, what: str) -> None:
        """Count an `entry`, a `file` or a reply (`protocol`) that was not what had been written."""
        self._tally(self._damaged, tier, what).add()

    def is_up(self, tier: str, *, up: bool) -> None:
        """Show whether Redis answers; of several workers the one that is worst off counts."""
        if tier != _ONLY_ON_OR_OFF:
            return
        if self._up is None:
            self._up = Gauge(
                "gateway_redis_up",
                "1 while Redis answers; of several workers the worst.",
                multiprocess_mode="livemin",
                registry=self._registry,
            )
        self._up.set(up)

    def show(self, states: Iterable[Sized]) -> None:
        """Show what the tiers hold; to be called about once a second."""
        for state in states:
            if state.name == _OF_EACH_PROCESS or _speaks_for_all():
                entries, size = state.entries, state.size
            else:
                entries = size = 0
            if entries is not None:
                self._entries.labels(state.name).set(entries)
            if size is not None:
                self._bytes.labels(state.name).set(size)

    def settle(self) -> None:
        """Bring the figures up to what was observed; to be called about once a second and before the page is made."""
        self._tallies.settle()

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["tier"], multiprocess_mode="livesum", registry=self._registry)

    def _tally(self, counter: Counter, tier: str, word: str) -> Tally:
        # The counter itself would be a key as well, but hashing strings that are kept is cheaper.
        key = (counter._name, tier, word)
        tally = self._series.get(key)
        if tally is None:
            tally = self._series[key] = self._tallies.counter(counter.labels(tier, word))
        return tally


def _speaks_for_all() -> bool:
    """Tell whether this process shows what all have in common: with several the one with the lowest number.

    The page adds up what processes show. Their files are there while they live.
    """
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return True
    pids = (path.stem.rpartition("_")[2] for path in Path(directory).glob("gauge_livesum_*.db"))
    return min((int(pid) for pid in pids if pid.isdigit()), default=os.getpid()) >= os.getpid()
