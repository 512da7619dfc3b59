"""The measures themselves: each drives running systems and returns figures. What they mean is `report.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.accounting import MEGABYTE, Memory, Meter, busiest, memory, snapshot
from bench.canned import CHAT, EMBEDDING, STREAM, Request
from bench.load import Crew, Tally
from bench.ratios import slope, turn
from bench.systems import BenchError, Program, System, running

REST_SECONDS = 0.02  # after a slice: long enough to be idle, so that the kernel's books are exact
SETTLE_SECONDS = 0.15  # after the last: longer than log lines gather, so that writing them is counted
WARM_UP = {"chat": 500, "stream": 300, "trickled": 32, "embedding": 300}
SOAK_STEPS = 20
SOAK_MIX = ((CHAT, 0.7), (STREAM, 0.15), (EMBEDDING, 0.15))


class Loader(Protocol):
    """What sends requests: connections that stay open while a slice is sent to another system."""

    async def send(self, count: int) -> Tally: ...


Open = Callable[[int, Request], AbstractAsyncContextManager[Loader]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: turns of all systems and requests in each, by kind of request; starts."""

    turns: Mapping[str, int]
    requests: Mapping[str, int]
    starts: int


_REQUESTS = {"chat": 200, "stream": 160, "trickled": 32, "embedding": 160}
FULL = Effort({"chat": 120, "stream": 120, "trickled": 60, "embedding": 100}, _REQUESTS, 5)
QUICK = Effort({"chat": 40, "stream": 40, "trickled": 15, "embedding": 30}, _REQUESTS, 3)


@dataclass(slots=True)
class Series:
    """What was found of one system, turn by turn: processor seconds per request, requests per second."""

    seconds: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)


async def send(system: System, loader: Loader, count: int) -> Tally:
    """Send `count` requests; raises BenchError for a single wrong answer: what it costs is of no interest."""
    tally = await loader.send(count)
    if tally.faults or not tally.answered:
        raise BenchError(f"{system.name}: {len(tally.faults)} faults; {tally.faults[:1]}")
    system.served += tally.answered
    return tally


async def compare(systems: Sequence[System], request: Request, effort: Effort, by: Open = Crew) -> dict[str, Series]:
    """Measure all systems turn by turn, each in a slice of its own; returns the series by name."""
    async with AsyncExitStack() as stack:
        for system in systems:
            crew = await stack.enter_async_context(Crew(system.port, request))
            await send(system, crew, WARM_UP[request.name])
    async with AsyncExitStack() as stack:
        lanes = [
            _Lane(system, await stack.enter_async_context(by(system.port, request)), effort.requests[request.name])
            for system in systems
        ]
        for number in range(effort.turns[request.name]):
            for lane in turn(lanes, number):
                await lane.run()
        await asyncio.sleep(SETTLE_SECONDS)
        return {lane.system.name: lane.end() for lane in lanes}


class _Lane:
    """One system in a comparison. What it still does after its slice is booked on that slice, up to its next one."""

    def __init__(self, system: System, loader: Loader, count: int) -> None:
        self.system = system
        self._loader = loader
        self._count = count
        self._meter = Meter(system.pid)
        self._answered = 0
        self._before = 0.0
        self._series = Series()

    async def run(self) -> None:
        """Send one slice and give the system time to come to rest."""
        self._book()
        tally = await send(self.system, self._loader, self._count)
        self._answered = tally.answered
        self._series.per_second.append(tally.per_second)
        await asyncio.sleep(REST_SECONDS)

    def end(self) -> Series:
        """Return the series."""
        self._book()
        return self._series

    def _book(self) -> None:
        now = self._meter.read()
        if self._answered:
            self._series.seconds.append((now - self._before) / self._answered)
        self._before = now


@dataclass(slots=True)
class Starts:
    """Seconds from each spawn to its first 200, and the processor seconds that the whole tree had used by then."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)


def starts(program: Program, directory: Path, times: int) -> Starts:
    """Start and end a program again and again."""
    found = Starts()
    for _ in range(times):
        with running(program, directory) as system:
            found.seconds.append(system.start_seconds)
            found.cpu_seconds.append(sum(snapshot(system.pid).values()))
    return found


def workers_memory(system: System) -> list[Memory]:
    """Return the memory of each worker process: those of the tree that worked most."""
    return [memory(pid) for pid in busiest(snapshot(system.pid), system.program.workers)]


def rest_memory(system: System) -> int:
    """Return the resident bytes of the rest of the tree: what keeps the workers alive."""
    seconds = snapshot(system.pid)
    workers = busiest(seconds, system.program.workers)
    return sum(memory(pid).resident for pid in seconds if pid not in workers)


async def soak(system: System, count: int) -> tuple[list[float], float]:
    """Send `count` mixed requests in steps.

    Returns the resident megabytes of the largest worker after each step, and their slope over the second half in
    kilobytes per 1,000 requests.
    """
    step = count // SOAK_STEPS
    points: list[tuple[float, float]] = []
    for number in range(SOAK_STEPS):
        for request, share in SOAK_MIX:
            async with Crew(system.port, request) as crew:
                await send(system, crew, max(1, int(step * share)))
        resident = max(held.resident for held in workers_memory(system))
        points.append(((number + 1) * step, float(resident)))
    per_request = slope(points[SOAK_STEPS // 2 :])
    return [resident / MEGABYTE for _, resident in points], per_request
