"""What the loaded models of one provider may take together, and which of them makes room for another.

How a process is started and ended lives in `model_process.py`.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from gateway.processes.model_plan import parts_of

MEBIBYTE = 1 << 20
TURN_SECONDS = 5.0  # how long a model that is at work is left alone while another one waits for its memory
REST_SECONDS = 1.0  # how long one is idle within its turn before its callers are taken to have gone
REST_OF_LOADING = 0.25  # and how much of the time that its loading took, if that is longer
LOOK_SECONDS = 0.2  # how often one that waits looks whether its time has come
ALLOWANCE_BYTES = 64 * MEBIBYTE  # beside its file, for a model that was not measured yet


class TooLarge(Exception):
    """The model fits into no memory that it could be given; the text is a clause for callers."""


class Tenant:
    """One model as its budget sees it: `takes` bytes, `is_busy` from being admitted until it has nothing to do.

    `see_off` is told for whom; it has the process take no more requests and end when those it has are answered.
    """

    def __init__(self, name: str, see_off: Callable[[str], None]) -> None:
        self.name = name
        self.see_off = see_off
        self.takes = 0
        self.is_busy = False
        self.is_leaving = False
        self.used_at = 0.0
        self.turn_ends = math.inf  # on the loop's clock, as `rests_since`
        self.rest_seconds = 0.0
        self.rests_since = 0.0


class Budget:
    """The memory of one provider's models; None as `limit_bytes` is no limit.

    Who wants memory gets it in the order of asking. Idle models make room, least recently used first, and none in vain:
    at once when they have had their turn of `turn_seconds`, within it after a rest, since a caller that asks one thing
    after the other would else have the model loaded for each. One at work does when it has had its turn, and another has
    waited as long.
    """

    def __init__(self, limit_bytes: int | None = None, turn_seconds: float = TURN_SECONDS) -> None:
        self.limit_bytes = limit_bytes
        self._turn_seconds = turn_seconds
        self._loaded: list[Tenant] = []  # the one that has been for longest comes first
        self._waiting: list[Tenant] = []
        self._changed = asyncio.Event()

    def check(self, tenant: Tenant) -> None:
        """Raise TooLarge for a model that would not fit if it were alone."""
        if self.limit_bytes is not None and tenant.takes > self.limit_bytes:
            raise TooLarge(
                f"it takes about {mebibytes(tenant.takes)} MiB of memory, and {mebibytes(self.limit_bytes)} MiB are allowed"
            )

    def admit_if_free(self, tenant: Tenant) -> bool:
        """Count `tenant` as loaded and busy if it fits beside what is loaded and none waits before it; none is ended."""
        is_behind = bool(self._waiting) and self._waiting[0] is not tenant
        if is_behind or self._excess(tenant.takes) > 0:
            return False
        tenant.is_busy = True
        tenant.is_leaving = False
        tenant.turn_ends, tenant.rest_seconds = math.inf, 0.0
        self._loaded.append(tenant)
        return True

    async def admit(self, tenant: Tenant, wait: Callable[[], None], patience_seconds: float) -> None:
        """Count `tenant` as loaded and busy once it fits; others make room for it.

        `wait` is called once if that takes longer than `patience_seconds`. Raises TooLarge.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        is_told = False
        self._waiting.append(tenant)
        try:
            while not self._make_room(tenant, is_due=clock() - began >= self._turn_seconds):
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._changed.wait()
                if not is_told and clock() - began >= patience_seconds:
                    is_told = True
                    wait()
        finally:
            self._waiting.remove(tenant)
            self._changed.set()

    def _make_room(self, tenant: Tenant, *, is_due: bool) -> bool:
        """Return whether `tenant` was admitted; see off who must go for it, if it is first among those that wait."""
        self.check(tenant)
        if self.admit_if_free(tenant):
            return True
        if self._waiting[0] is not tenant:
            return False
        going = [*self._at_rest(), *(self._done_with_turn() if is_due else ())]
        if self._lacking(tenant.takes) <= _sum(going):
            self._see_off(going, tenant.takes, tenant.name)
        return False

    def start_turn(self, tenant: Tenant, loading_seconds: float) -> None:
        """Note that `tenant` is ready; it is left to its callers for as long at least as its loading took."""
        tenant.turn_ends = asyncio.get_running_loop().time() + max(self._turn_seconds, loading_seconds)
        tenant.rest_seconds = max(REST_SECONDS, REST_OF_LOADING * loading_seconds)

    def release(self, tenant: Tenant) -> None:
        """Note that the process of `tenant` is gone; harmless when it was not loaded."""
        if tenant in self._loaded:
            self._loaded.remove(tenant)
        tenant.is_busy = False
        self._changed.set()

    def note_idle(self, tenant: Tenant, now: float) -> None:
        """Note that `tenant` has nothing to do from `now` on, in monotonic seconds."""
        tenant.is_busy = False
        tenant.used_at = now
        tenant.rests_since = asyncio.get_running_loop().time()
        self._changed.set()
        self._see_off(self._idle(), 0, "the limit of memory")

    def measure(self, tenant: Tenant, takes: int) -> None:
        """Note how many bytes `tenant` really takes; idle models are ended if that is too much together."""
        tenant.takes = takes
        self._see_off(self._idle(), 0, "the limit of memory")

    def _see_off(self, going: Iterable[Tenant], takes: int, reason: str) -> None:
        """See off, in their order, as many as there must be for `takes` bytes more."""
        for one in going:
            if self._lacking(takes) <= 0:
                return
            one.is_leaving = True
            one.see_off(reason)

    def _excess(self, takes: int) -> int:
        """Return how many bytes there would be too many with `takes` more."""
        return 0 if self.limit_bytes is None else _sum(self._loaded) + takes - self.limit_bytes

    def _lacking(self, takes: int) -> int:
        """Return how many of them will not come free by those who leave already."""
        return self._excess(takes) - _sum(one for one in self._loaded if one.is_leaving)

    def _idle(self) -> list[Tenant]:
        return sorted((one for one in self._staying() if not one.is_busy), key=lambda one: one.used_at)

    def _at_rest(self) -> list[Tenant]:
        """Return the idle ones whose callers have had their turn, or are not likely to come back at once."""
        now = asyncio.get_running_loop().time()
        return [one for one in self._idle() if now >= min(one.turn_ends, one.rests_since + one.rest_seconds)]

    def _done_with_turn(self) -> list[Tenant]:
        now = asyncio.get_running_loop().time()
        return [one for one in self._staying() if one.is_busy and now >= one.turn_ends]

    def _staying(self) -> Iterator[Tenant]:
        return (one for one in self._loaded if not one.is_leaving)


def mebibytes(count: int) -> int:
    """Return `count` bytes in MiB, rounded up."""
    return -(-count // MEBIBYTE)


def estimate(file: Path) -> int:
    """Return how many bytes the model that begins with `file` may take before it was measured; raises OSError."""
    return sum(part.stat().st_size for part in parts_of(file)) + ALLOWANCE_BYTES


def resident_bytes(pid: int) -> int | None:
    """Return how many bytes of memory a process has, None where the system does not say."""
    pages = _pages(pid)
    return None if pages is None else pages[0]


def private_bytes(pid: int) -> int | None:
    """Return how many of them are not of a file, so that the system cannot take them back."""
    pages = _pages(pid)
    return None if pages is None else pages[0] - pages[1]


def _pages(pid: int) -> tuple[int, int] | None:
    try:
        words = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        page = os.sysconf("SC_PAGE_SIZE")
        return int(words[1]) * page, int(words[2]) * page
    except (OSError, IndexError, ValueError):
        return None


def _sum(tenants: Iterable[Tenant]) -> int:
    return sum(tenant.takes for tenant in tenants)
