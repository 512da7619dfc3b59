"""Where the time goes: py-spy samples raw and gateway under the same load, scaled to processor µs per request.

py-spy stops what it looks at, so the totals are measured before it looks. The two are sampled one after the other: on a
busy machine trust the shares within a system more than the difference between the two.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.accounting import Meter, busiest, snapshot
from bench.canned import Request
from bench.load import Crew
from bench.measures import SETTLE_SECONDS
from bench.systems import BenchError, System

SECONDS = 8
RATE = 400
BATCH = 500
BATCHES = 7
_THREAD = "_bootstrap (threading.py"  # the first frame of every thread but the main one


def by_function(samples: Iterable[str]) -> tuple[Counter[str], int]:
    """Return how often each function stood in a sample, and how many samples there were.

    A line is `frame;frame;frame count`, a frame `function (file:line)`; lines of one function count together. Samples of
    other threads than the main one are left out: py-spy takes a thread that waits for a lock for a busy one.
    """
    found: Counter[str] = Counter()
    total = 0
    for line in samples:
        stack, _, count = line.rpartition(" ")
        if _THREAD in stack.split(";", 1)[0]:
            continue
        times = int(count)
        total += times
        for function in {frame.rsplit(":", 1)[0] for frame in stack.split(";")}:
            found[function] += times
    return found, total


def scale(samples: Iterable[str], microseconds: float) -> dict[str, float]:
    """Return the processor µs per request that were spent below each function."""
    found, total = by_function(samples)
    return {function: count / total * microseconds for function, count in found.items()} if total else {}


def lines(raw: Mapping[str, float], gateway: Mapping[str, float], most: int = 60) -> list[str]:
    """Return the functions under which the gateway spends most, beside raw, in µs per request."""
    names = sorted(gateway, key=lambda name: gateway[name], reverse=True)[:most]
    rows = [(raw.get(name, 0.0), gateway[name], name) for name in names]
    head = f"{'raw':>8} {'gateway':>8} {'more':>8}  function"
    return [head, *(f"{base:8.1f} {own:8.1f} {own - base:+8.1f}  {name}" for base, own, name in rows)]


async def sample(system: System, request: Request, file: Path) -> dict[str, float]:
    """Load `system` while py-spy watches its busiest process, and return the µs per request by function."""
    sampler = shutil.which("py-spy")
    if sampler is None:
        raise BenchError("--profile needs py-spy: .venv/bin/pip install py-spy, and its directory on PATH")
    async with Crew(system.port, request) as crew:
        return await _watch(system, crew, sampler, file)


async def _watch(system: System, crew: Crew, sampler: str, file: Path) -> dict[str, float]:
    await crew.send(BATCH)
    seconds = await _price(system, crew)
    watching = await asyncio.create_subprocess_exec(
        *[sampler, "record", "--pid", str(busiest(snapshot(system.pid), 1)[0]), "--duration", str(SECONDS)],
        *["--rate", str(RATE), "--format", "raw", "--output", str(file)],
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    until = time.monotonic() + SECONDS + 1
    while time.monotonic() < until:
        await crew.send(BATCH)
    if await watching.wait() != 0:
        raise BenchError(f"py-spy could not watch {system.name}; it may need root")
    return scale(file.read_text().splitlines(), seconds * 1e6)


async def _price(system: System, crew: Crew) -> float:
    """Return the processor seconds of a request while nobody looks: the median of a few batches."""
    meter = Meter(system.pid)
    found = []
    for _ in range(BATCHES):
        before = meter.read()
        tally = await crew.send(BATCH)
        await asyncio.sleep(SETTLE_SECONDS)
        if tally.faults:
            raise BenchError(f"{system.name}: {tally.faults[0]}")
        found.append((meter.read() - before) / tally.answered)
    return statistics.median(found)


async def compare(raw: System, gateway: System, requests: Sequence[Request], directory: Path) -> list[str]:
    """Return the comparison of each kind of request as text; the raw samples stay in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    text: list[str] = []
    for request in requests:
        base = await sample(raw, request, directory / f"raw-{request.name}.txt")
        own = await sample(gateway, request, directory / f"gateway-{request.name}.txt")
        text += ["", request.name, *lines(base, own)]
    return text
