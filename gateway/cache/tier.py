"""What every tier is to the rest of the gateway, and what it tells of itself.

A tier never fails a call: what it cannot read is a miss, what it cannot write is not remembered, and either is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.cache.entry import Entry
from gateway.cache.keys import Space

TierName = Literal["memory", "disk", "redis"]


@dataclass(frozen=True, slots=True)
class TierState:
    """What a tier holds; `entries` and `size` (bytes) are None where nobody knows, `trouble` is what is wrong with it."""

    name: TierName
    entries: int | None
    size: int | None
    most: int | None = None
    trouble: str = ""


class Counts(Protocol):
    """Who is told what happens in the tiers."""

    def looked_up(self, tier: TierName, hits: int, misses: int) -> None: ...
    def evicted(self, tier: TierName, entries: int, reason: Literal["size", "expired"]) -> None: ...
    def failed(self, tier: TierName, operation: Literal["read", "write"]) -> None:
        """Count an operation that did not come about; its entries are misses, or are not remembered."""
        ...

    def damaged(self, tier: TierName, what: Literal["entry", "file", "protocol"]) -> None:
        """Count what was read and is not what was written: an entry, a whole file that was set aside, a wrong reply."""
        ...

    def is_up(self, tier: TierName, *, up: bool) -> None: ...


class Tier(Protocol):
    """One place where entries are kept."""

    name: TierName

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return what there is of these keys and is not over its time; raises nothing but cancellation."""
        ...

    def put_many(self, entries: Sequence[Entry], space: Space) -> None:
        """Take entries to be kept, soon: nobody waits for it, and what there is no room for is left out."""
        ...

    async def clear(self, label: str | None = None) -> int:
        """Forget everything, or what belongs to one `provider/model`; return how many entries, as far as known."""
        ...

    async def state(self) -> TierState: ...

    async def close(self) -> None:
        """Write what waits and let go; at most two seconds."""
        ...
