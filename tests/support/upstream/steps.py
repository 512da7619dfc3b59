"""The single steps an answer is made of: bytes, waits that the test controls, repetitions, and ways to end badly.

Playing them on a socket is the business of `player.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

PATIENCE_SECONDS = 10.0  # how long a test waits for something that should have happened long ago


class Bell:
    """Wakes whoever waits for a condition, each time that something has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._event.wait()

    async def expect(self, condition: Callable[[], bool], waiting_for: str, within_seconds: float) -> None:
        """Wait for the condition; raises AssertionError when it does not come true in time."""
        try:
            async with asyncio.timeout(within_seconds):
                await self.until(condition)
        except TimeoutError:
            raise AssertionError(f"not within {within_seconds:g} s: {waiting_for}") from None


class Gate:
    """Holds an answer where it stands until the test opens it.

    All bytes before the gate are out when it is reached. One gate may hold several answers, or one several times.
    """

    def __init__(self) -> None:
        self._bell = Bell()
        self._is_open = False
        self._passes = 0
        self._arrivals = 0

    def open(self) -> None:
        """Let everything pass from now on."""
        self._is_open = True
        self._bell.ring()

    def let(self, count: int = 1) -> None:
        """Let `count` arrivals pass, now or later."""
        self._passes += count
        self._bell.ring()

    async def reached(self, times: int = 1, *, within_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until answers have come to the gate `times` times in all, whether they passed or not."""
        await self._bell.expect(lambda: self._arrivals >= times, f"gate reached {times} x", within_seconds)

    async def wait(self) -> None:
        """Stand at the gate; called by the upstream."""
        self._arrivals += 1
        self._bell.ring()
        await self._bell.until(lambda: self._is_open or self._passes > 0)
        if not self._is_open:
            self._passes -= 1


@dataclass(frozen=True)
class Pause:
    """A wait by the clock, for what has no event to wait for; prefer a Gate."""

    seconds: float


@dataclass(frozen=True)
class Repeated:
    """The same bytes `times` times (None: until the client leaves), for bodies that fit in no memory."""

    piece: bytes
    times: int | None = None
    every_seconds: float = 0.0


class Ending(Enum):
    """How an answer stops before its end."""

    RESET = "reset"  # TCP RST: the client sees ECONNRESET
    CLOSE = "close"  # FIN: the client sees the end of the body too early
    HANG = "hang"  # nothing more, the connection stays until the client leaves


Step = bytes | Gate | Pause | Repeated | Ending


def size_of(steps: tuple[Step, ...]) -> int | None:
    """Return the bytes that the steps write; None when there is no end to them."""
    total = 0
    for step in steps:
        if isinstance(step, bytes):
            total += len(step)
        elif isinstance(step, Repeated):
            if step.times is None:
                return None
            total += len(step.piece) * step.times
    return total
