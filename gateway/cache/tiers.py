"""The tiers together: asked from the fastest to the slowest, filled upwards, cleared from below.

How one tier keeps its entries is its own file's business; which inputs are asked for at all is the dispatcher's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from gateway.cache.entry import Entry
from gateway.cache.keys import Space
from gateway.cache.memory import MemoryTier
from gateway.cache.tier import Tier, TierName, TierState
from gateway.logs import event

TEND_SECONDS = 1.0
SWEEP_STEP = 256  # entries that are looked at before others have their turn


class SharedTier(Tier, Protocol):
    """A tier that other processes write to as well."""

    async def generation(self) -> int:
        """Return a number that changes whenever any process cleared the tier."""
        ...

    async def labels(self) -> Sequence[tuple[str, int, int]]:
        """Return (`provider/model`, entries, bytes) of all that it holds; raise OSError where it cannot be read."""
        ...

    def iterate(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (`provider/model`, packed entry) of all that it holds; raise OSError where it cannot be read."""
        ...

    async def flush(self) -> None:
        """Wait until everything that was put before is kept."""
        ...


@runtime_checkable
class Board(Protocol):
    """Who is told about once a second what the tiers hold."""

    def show(self, states: Iterable[TierState]) -> None: ...


@runtime_checkable
class Warmed(Protocol):
    """A tier whose first call would wait longer than others."""

    async def warm(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was found, and how many of the keys that were asked for each tier had."""

    entries: dict[bytes, Entry]
    tiers: dict[str, int]


class Tiers:
    """All tiers that are on, of one process; None stands for one that is off."""

    def __init__(
        self,
        memory: MemoryTier | None,
        disk: SharedTier | None,
        redis: Tier | None,
        board: Board | None = None,
        *,
        tend_seconds: float = TEND_SECONDS,
    ) -> None:
        self._memory = memory
        self.disk = disk
        self.redis = redis
        self._tiers: tuple[Tier, ...] = tuple(tier for tier in (memory, disk, redis) if tier)
        self._board = board
        self._tend_seconds = tend_seconds
        self._clearings = 0  # so that what was read before a clearing is not written after it
        self._generation: int | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> tuple[TierName, ...]:
        """The tiers that are on, in the order in which they are asked."""
        return tuple(tier.name for tier in self._tiers)

    def start(self) -> None:
        """Begin to tend the tiers in the background; to be called in the running loop, and ended by `close`."""
        if self._tiers and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_tending())

    def recall_now(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return what memory has of these keys, without waiting.

        Where something is missing, `recall` is to be asked next, for all of them: until then nothing is counted.
        """
        memory = self._memory
        if memory is None:
            return {}
        found = memory.peek_many(keys)
        if len(found) == len(keys) or all(key in found for key in keys):
            memory.count(keys, found)
        return found

    async def recall(self, keys: Sequence[bytes], space: Space, newer_than: float | None = None) -> Recalled:
        """Return what any tier has of these keys and was not created before `newer_than`, in Unix seconds.

        What a tier has is put into those above it. Every occurrence of a key is counted.
        """
        recalled = Recalled({}, {})
        missing: Sequence[bytes] = keys
        clearings = self._clearings
        for place, tier in enumerate(self._tiers):
            if tier is not self._memory:  # which is asked for every occurrence sooner than they could be sorted out
                missing = [key for key in dict.fromkeys(missing) if key not in recalled.entries]
            if not missing:
                break
            found = await tier.get_many(missing)
            if newer_than is not None:
                found = {key: entry for key, entry in found.items() if entry.created >= newer_than}
            if not found:
                continue
            recalled.entries.update(found)
            recalled.tiers[tier.name] = _occurrences(keys, found)
            if place and clearings == self._clearings:
                self._fill(self._tiers[:place], tuple(found.values()), space)
            if len(recalled.entries) == len(keys):
                break
        return recalled

    def remember(self, entries: Sequence[Entry], space: Space) -> None:
        """Give entries to all tiers; nobody waits for it."""
        self._fill(self._tiers, entries, space)

    async def clear(self, label: str | None = None) -> dict[str, int]:
        """Forget everything, or what belongs to one `provider/model`; return how many entries of each tier."""
        gone: dict[str, int] = {}
        for tier in reversed(self._tiers):  # or the lower ones would fill the upper ones again
            gone[tier.name] = await tier.clear(label)
            self._clearings += 1
        return dict(reversed(gone.items()))

    async def states(self) -> list[TierState]:
        return [await tier.state() for tier in self._tiers]

    async def models(self) -> Sequence[tuple[str, int, int]]:
        """Return (`provider/model`, entries, bytes) of what is kept on disk, the one tier that knows.

        Raises OSError where it cannot be read.
        """
        return () if self.disk is None else await self.disk.labels()

    async def report(self) -> dict[str, Any]:
        """Return what the tiers hold in the words that people read, ready for JSON."""
        states = [_told(state) for state in await self.states()]
        try:
            models = [
                {"model": label, "entries": entries, "bytes": size} for label, entries, size in await self.models()
            ]
        except OSError:  # the disk's state says why
            return {"tiers": states, "models": None}
        return {"tiers": states, "models": models}

    async def tend(self) -> None:
        """Do what is due about once a second: sweep, see whether others cleared, show what there is."""
        if self._memory is not None:
            swept = SWEEP_STEP
            while swept == SWEEP_STEP:
                swept = self._memory.sweep(SWEEP_STEP)
                await asyncio.sleep(0)
        await self._follow_clearings()
        if self._board is not None:
            self._board.show(await self.states())

    async def close(self) -> None:
        """Write what waits and let go; at most about two seconds."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await asyncio.gather(*(tier.close() for tier in self._tiers))

    async def _follow_clearings(self) -> None:
        if self.disk is None:
            return
        generation = await self.disk.generation()
        if self._generation is not None and generation != self._generation:
            self._clearings += 1
            if self._memory is not None:
                self._memory.clear_now()
        self._generation = generation

    async def _keep_tending(self) -> None:
        failed, cold = False, [tier for tier in self._tiers if isinstance(tier, Warmed)]
        while True:
            try:
                await self.tend()
            except Exception as error:  # noqa: BLE001  the figures are not worth what else is tended
                if not failed:
                    event("cache_tending_failed", level="error", error=repr(error))
                failed = True
            else:
                failed = False
            while cold:
                await cold.pop().warm()
            await asyncio.sleep(self._tend_seconds)

    @staticmethod
    def _fill(tiers: Sequence[Tier], entries: Sequence[Entry], space: Space) -> None:
        for tier in tiers:
            tier.put_many(entries, space)


def _told(state: TierState) -> dict[str, Any]:
    return {
        "tier": state.name,
        "entries": state.entries,
        "bytes": state.size,
        "max_bytes": state.most,
        "trouble": state.trouble or None,
    }


def _occurrences(keys: Sequence[bytes], found: dict[bytes, Entry]) -> int:
    return len(found) if len(found) == len(keys) else sum(key in found for key in keys)
