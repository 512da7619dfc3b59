"""The measures themselves: each drives running systems and returns figures. What they mean is `report.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.accounting import MEGABYTE, Memory, busiest, memory, snapshot, spent
from bench.canned import CHAT, EMBEDDING, STREAM, Request
from bench.load import Tally, drive
from bench.ratios import slope, turn
from bench.systems import BenchError, Program, System, running

SETTLE_SECONDS = 0.15  # longer than the gateway lets log lines gather, so that writing them is counted
WARM_UP = 300
SOAK_STEPS = 10
SOAK_MIX = ((CHAT, 0.7), (STREAM, 0.15), (EMBEDDING, 0.15))

Drive = Callable[[int, Request, int], Awaitable[Tally]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds over all systems, requests per round and system, starts."""

    rounds: int
    requests: dict[str, int]
    starts: int


FULL = Effort(15, {"chat": 2000, "stream": 1400, "trickled": 160, "embedding": 1400}, 5)
QUICK = Effort(5, {"chat": 1000, "stream": 600, "trickled": 96, "embedding": 600}, 3)


@dataclass(slots=True)
class Rounds:
    """Processor seconds per request and requests per second, by system and round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    per_second: dict[str, list[float]] = field(default_factory=dict)


async def load(system: System, request: Request, count: int, by: Drive = drive) -> tuple[float, Tally]:
    """Send `count` requests and return the processor seconds of each and the tally.

    Raises BenchError when a single answer was wrong: the price of wrong answers is of no interest.
    """
    before = snapshot(system.pid)
    tally = await by(system.port, request, count)
    system.served += tally.answered
    if tally.faults or not tally.answered:
        raise BenchError(f"{system.name}: {len(tally.faults)} faults; {tally.faults[:1]}")
    await asyncio.sleep(SETTLE_SECONDS)
    return spent(before, snapshot(system.pid)) / tally.answered, tally


async def compare(systems: Sequence[System], request: Request, effort: Effort, by: Drive = drive) -> Rounds:
    """Measure all systems in every round, in turn."""
    count = effort.requests[request.name]
    by_name = {system.name: system for system in systems}
    found = Rounds({name: [] for name in by_name}, {name: [] for name in by_name})
    for system in systems:
        await load(system, request, min(WARM_UP, count))
    for number in range(effort.rounds):
        for name in turn(list(by_name), number):
            seconds, tally = await load(by_name[name], request, count, by)
            found.seconds[name].append(seconds)
            found.per_second[name].append(tally.per_second)
    return found


def start_seconds(program: Program, directory: Path, times: int) -> list[float]:
    """Start and end a program again and again; return the seconds from each spawn to its first 200."""
    found = []
    for _ in range(times):
        with running(program, directory) as system:
            found.append(system.start_seconds)
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
            await load(system, request, max(1, int(step * share)))
        resident = max(held.resident for held in workers_memory(system))
        points.append(((number + 1) * step, float(resident)))
    per_request = slope(points[SOAK_STEPS // 2 :])
    return [resident / MEGABYTE for _, resident in points], per_request
