"""Whether Redis is asked at all: after a few failures nobody waits for it, and one quiet probe finds out when it is back.

A failure is told once, as is the return. What is asked, and of which failures it learns, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

MOST_FAILURES = 3.0
MADE_UP = 0.25  # what a success takes off: one failure in five is too many, one in a hundred is not
FIRST_PROBE_SECONDS = 1.0
LONGEST_PROBE_SECONDS = 4.0  # with jitter and the probe itself less than five
GROWTH = 1.5


class Breaker:
    """Counts failures, and probes while it is open.

    `probe` returns "" when Redis answers as it should, else what is wrong with it. `tell` hears of
    changes: what is wrong, "" when nothing is. `dice` returns numbers in [0, 1).
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[str]],
        tell: Callable[[str], None],
        dice: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.is_open = False
        self._probe = probe
        self._tell = tell
        self._dice = dice
        self._sleep = sleep
        self._failures = 0.0
        self._pause = FIRST_PROBE_SECONDS
        self._greeted = False
        self._probing: asyncio.Task[None] | None = None

    def succeeded(self) -> None:
        """Note an answer. One that was asked for before the breaker opened does not close it."""
        if self.is_open:
            return
        self._failures = max(0.0, self._failures - MADE_UP)
        if not self._failures:
            self._pause = FIRST_PROBE_SECONDS
        if not self._greeted:
            self._greeted = True
            self._tell("")

    def failed(self, reason: str, weight: float = 1.0) -> None:
        """Note a failure; one with the weight of MOST_FAILURES opens at once."""
        self._failures += weight
        if self.is_open or self._failures < MOST_FAILURES:
            return
        self.is_open = self._greeted = True
        self._tell(reason)
        self._probing = asyncio.get_running_loop().create_task(self._wait_for_return())

    async def close(self) -> None:
        """Probe no more."""
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing

    async def _wait_for_return(self) -> None:
        trouble = "unknown yet"
        while trouble:
            await self._sleep(self._pause * (0.9 + 0.2 * self._dice()))
            self._pause = min(self._pause * GROWTH, LONGEST_PROBE_SECONDS)
            trouble = await self._probe()
        # On probation: what fails again at once is left alone again, for longer, until enough has gone well.
        self.is_open, self._failures, self._probing = False, MOST_FAILURES - 1, None
        self._tell("")
