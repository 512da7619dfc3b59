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
from bench.ratios import keep, slope, turn
from bench.systems import BenchError, Program, System, running

REST_SECONDS = 0.02  # after a slice: long enough to be idle, so that the kernel's books are exact
SETTLE_SECONDS = 0.15  # after the last: longer than log lines gather, so that writing them is counted
CALM_WAITING_SHARE = 0.05  # of a slice without a core, above which its turn does not count; at rest it is 0.01
MOST_TURNS = 1.6  # times the turns that are wanted, while too few were calm
WARM_UP = {"chat": 500, "stream": 300, "trickled": 32, "embedding": 300, "long chat": 40}
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


_REQUESTS = {"chat": 200, "stream": 160, "trickled": 32, "embedding": 160, "long chat": 20}
FULL = Effort({"chat": 120, "stream": 120, "trickled": 60, "embedding": 100, "long chat": 40}, _REQUESTS, 5)
QUICK = Effort({"chat": 40, "stream": 40, "trickled": 15, "embedding": 30, "long chat": 12}, _REQUESTS, 3)


@dataclass(slots=True)
class Series:
    """One system turn by turn: processor seconds per request, requests per second, share of the slice without a core."""

    seconds: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The series by name, and which turns were calm for every system: only those count.

    Other programs on the cores add to every system's cost alike and so pull each ratio towards 1. What is calm is told by
    the kernel's run queue, never by the cost.
    """

    series: Mapping[str, Series]
    wanted: int

    @property
    def calm(self) -> list[bool]:
        turns = zip(*(series.waiting for series in self.series.values()), strict=True)
        return [max(shares) <= CALM_WAITING_SHARE for shares in turns]

    @property
    def is_enough(self) -> bool:
        """Tell whether at least half of the wanted turns were calm; with fewer there is no verdict."""
        return 2 * sum(self.calm) >= self.wanted

    def seconds(self, name: str) -> list[float]:
        """Return the cost of one system in the calm turns; in all of them when there are too few."""
        found = self.series[name].seconds
        return keep(found, self.calm) if self.is_enough else found

    def per_second(self, name: str) -> list[float]:
        """Return the speed of one system in the calm turns; in all of them when there are too few."""
        found = self.series[name].per_second
        return keep(found, self.calm) if self.is_enough else found


async def send(system: System, loader: Loader, count: int) -> Tally:
    """Send `count` requests; raises BenchError for a single wrong answer: what it costs is of no interest."""
    tally = await loader.send(count)
    if tally.faults or not tally.answered:
        raise BenchError(f"{system.name}: {len(tally.faults)} faults; {tally.faults[:1]}")
    system.served += tally.answered
    return tally


async def compare(
    systems: Sequence[System],
    request: Request,
    effort: Effort,
    by: Open = Crew,
    instead: Mapping[str, Request] | None = None,
) -> Comparison:
    """Measure all systems turn by turn, each in a slice of its own, until enough turns were calm or time is up.

    `instead` has what systems, by their names, are asked in the place of `request`.
    """
    wanted = effort.turns[request.name]
    asked = {system.name: (instead or {}).get(system.name, request) for system in systems}
    async with AsyncExitStack() as stack:
        for system in systems:
            crew = await stack.enter_async_context(Crew(system.port, asked[system.name]))
            await send(system, crew, WARM_UP[request.name])
    async with AsyncExitStack() as stack:
        lanes = [
            _Lane(
                system,
                await stack.enter_async_context(by(system.port, asked[system.name])),
                effort.requests[request.name],
            )
            for system in systems
        ]
        found = Comparison({lane.system.name: lane.series for lane in lanes}, wanted)
        number = 0
        while sum(found.calm) < wanted and number < wanted * MOST_TURNS:
            for lane in turn(lanes, number):
                await lane.run()
            number += 1
        await asyncio.sleep(SETTLE_SECONDS)
        for lane in lanes:
            lane.book()
    return found


class _Lane:
    """One system in a comparison. What it still does after its slice is booked on that slice, up to its next one."""

    def __init__(self, system: System, loader: Loader, count: int) -> None:
        self.system = system
        self.series = Series()
        self._loader = loader
        self._count = count
        self._meter = Meter(system.pid)
        self._answered = 0
        self._before = 0.0

    async def run(self) -> None:
        """Send one slice and give the system time to come to rest."""
        self.book()
        waited = self._meter.waited()
        tally = await send(self.system, self._loader, self._count)
        self._answered = tally.answered
        self.series.per_second.append(tally.per_second)
        await asyncio.sleep(REST_SECONDS)
        # Several workers on one core wait for one another, which tells nothing of other programs.
        share = (self._meter.waited() - waited) / tally.seconds if self.system.program.workers == 1 else 0.0
        self.series.waiting.append(share)

    def book(self) -> None:
        """Take what was spent since the last slice began as its cost."""
        now = self._meter.read()
        if self._answered:
            self.series.seconds.append((now - self._before) / self._answered)
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
