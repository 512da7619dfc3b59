"""Inputs that are being embedded: whoever asks for one of them meanwhile waits for the same answer.

A flight belongs to nobody: its first caller may leave and the others still get their vector. When the last one has
left, whoever works on it is told to stop. How upstreams are asked is the business of `errands.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.cache import Entry, Input
from gateway.call import Call, Record
from gateway.errors import GatewayError


@dataclass(slots=True, eq=False)
class Flight:
    """One input on its way; `stop` ends the work that nobody waits for.

    When it `has_landed` there is an `entry`, or else there was an error; `asked` is how either came about, if an upstream
    was asked.
    `until` is the latest moment (Unix seconds) to remember it, 0 for no limit; it is not remembered at all while nobody
    `stores` it.
    """

    key: bytes
    given: Input
    stores: bool = False
    until: int = 0
    waiting: list[Waiter] = field(default_factory=list)
    has_landed: bool = False
    entry: Entry | None = None
    asked: Record | None = None
    stop: Callable[[Flight], None] = lambda _flight: None

    def keep(self, until: int) -> None:
        """Have it remembered, for as long as anybody wants."""
        self.until = max(self.until, until) if not self.stores or (self.until and until) else 0
        self.stores = True


class Waiter:
    """One request, `call`, that waits for some flights; the first error among them is its own."""

    __slots__ = ("_done", "_error", "_flights", "_missing", "call")

    def __init__(self, call: Call, flights: Iterable[Flight]) -> None:
        self.call = call
        self._flights = [flight for flight in flights if not flight.has_landed]
        self._missing = len(self._flights)
        self._error: Exception | None = None
        self._done = asyncio.get_running_loop().create_future()
        for flight in self._flights:
            flight.waiting.append(self)

    def note(self, error: Exception | None) -> None:
        """Take note that one of the flights has landed."""
        self._missing -= 1
        self._error = self._error or error
        if (self._missing == 0 or error is not None) and not self._done.done():
            self._done.set_result(None)

    async def wait(self) -> None:
        """Return when all have landed, raise the error of one that did not well; leaves those still on their way."""
        try:
            if self._missing:
                await self._done
        finally:
            for flight in self._flights:
                if not flight.has_landed:
                    flight.waiting.remove(self)
                    if not flight.waiting:
                        flight.stop(flight)
        error, self._error = self._error, None
        if error is not None:
            try:
                _raise(error)
            finally:
                del error  # it leads to this frame: what a request held must not wait for the garbage collector


class Flights:
    """Every input that is on its way in this process, by its key."""

    def __init__(self) -> None:
        self._flying: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def take_off(self, flight: Flight) -> None:
        """Let others join a flight; one of the same key that is on its way already is no longer joined."""
        self._flying[flight.key] = flight

    def find(self, key: bytes) -> Flight | None:
        return self._flying.get(key)

    def land(self, flight: Flight, outcome: Entry | Exception) -> None:
        """Give everyone who waits the entry, or the error; a flight that has landed before is left as it is."""
        if flight.has_landed:
            return
        flight.has_landed = True
        error = outcome if isinstance(outcome, Exception) else None
        if not isinstance(outcome, Exception):
            flight.entry = outcome
        self.abandon(flight)
        for waiter in flight.waiting:
            waiter.note(error)
        flight.waiting.clear()

    def abandon(self, flight: Flight) -> None:
        """Let nobody join this flight any more."""
        if self._flying.get(flight.key) is flight:
            del self._flying[flight.key]


def _raise(error: Exception) -> None:
    """Raise an error that others are told as well, as one of this request alone."""
    try:
        if not isinstance(error, GatewayError):
            raise RuntimeError("an input could not be embedded") from error
        error.__traceback__ = None  # else it grows with everyone who is told
        raise error
    finally:
        del error  # as above
