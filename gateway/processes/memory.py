"""What the loaded models of one provider may take together, and which of them makes room for another.

How a process is started and ended lives in `model_process.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

MEBIBYTE = 1 << 20
PATIENCE_SECONDS = 1.0  # a caller of one model who then asks another must not find the first still at work
ALLOWANCE_BYTES = 64 * MEBIBYTE  # beside its file, for a model that was not measured yet


class TooLarge(Exception):
    """The model fits into no memory that it could be given; the text is a clause for callers."""


class Tenant:
    """One model as its budget sees it: `takes` bytes, `is_busy` from being admitted until it has nothing to do.

    `evict` is told for whom, ends the process and returns when it is gone.
    """

    def __init__(self, name: str, evict: Callable[[str], Awaitable[None]]) -> None:
        self.name = name
        self.evict = evict
        self.takes = 0
        self.is_busy = False
        self.used_at = 0.0


class Budget:
    """The memory of one provider's models; None as `limit_bytes` is no limit."""

    def __init__(self, limit_bytes: int | None = None, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._limit = limit_bytes
        self._patience_seconds = patience_seconds
        self._loaded: list[Tenant] = []
        self._deciding = asyncio.Lock()
        self._changed = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None

    @property
    def is_limited(self) -> bool:
        return self._limit is not None

    def is_outgrown_by(self, count: int) -> bool:
        """Tell whether one process with `count` bytes has more than all may take together."""
        return self._limit is not None and count > self._limit

    def check(self, tenant: Tenant) -> None:
        """Raise TooLarge for a model that would not fit if it were alone."""
        if self._limit is not None and self.is_outgrown_by(tenant.takes):
            raise TooLarge(
                f"it takes about {mebibytes(tenant.takes)} MiB of memory, and {mebibytes(self._limit)} MiB are allowed"
            )

    def admit_if_free(self, tenant: Tenant) -> bool:
        """Count `tenant` as loaded and busy if it fits beside what is loaded; nobody is ended for it."""
        if self._excess(tenant.takes) > 0:
            return False
        tenant.is_busy = True
        self._loaded.append(tenant)
        return True

    async def admit(self, tenant: Tenant, wait: Callable[[], None]) -> None:
        """Count `tenant` as loaded and busy once it fits; idle models are ended for it, least recently used first.

        `wait` is called once if that takes long because others are at work. None is ended in vain. Raises TooLarge.
        """
        until: float | None = asyncio.get_running_loop().time() + self._patience_seconds
        while not await self._make_room(tenant):
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                until = None
                wait()

    async def _make_room(self, tenant: Tenant) -> bool:
        self.check(tenant)
        async with self._deciding:
            while not self.admit_if_free(tenant):
                idle = self._idle()
                if self._excess(tenant.takes) > sum(one.takes for one in idle):
                    return False
                await self._evict(idle[0], tenant.name)
        return True

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
        self._changed.set()
        self._settle_soon()

    def measure(self, tenant: Tenant, takes: int) -> None:
        """Note how many bytes `tenant` really takes; idle models are ended if that is too much together."""
        tenant.takes = takes
        self._settle_soon()

    def _settle_soon(self) -> None:
        if self._excess(0) > 0 and (self._settling is None or self._settling.done()):
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        async with self._deciding:
            while self._excess(0) > 0 and (idle := self._idle()):
                await self._evict(idle[0], "the limit of memory")

    async def _evict(self, tenant: Tenant, reason: str) -> None:
        await tenant.evict(reason)
        self.release(tenant)

    def _excess(self, takes: int) -> int:
        """Return how many bytes there would be too many with `takes` more."""
        return 0 if self._limit is None else _sum(self._loaded) + takes - self._limit

    def _idle(self) -> list[Tenant]:
        return sorted((one for one in self._loaded if not one.is_busy), key=lambda one: one.used_at)


def mebibytes(count: int) -> int:
    """Return `count` bytes in MiB, rounded up."""
    return -(-count // MEBIBYTE)


def estimate(file: Path) -> int:
    """Return how many bytes the model in `file` may take before it was measured; raises OSError."""
    return file.stat().st_size + ALLOWANCE_BYTES


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
