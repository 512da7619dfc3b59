"""What the operating system has booked on a tree of processes: processor time and memory. It measures, it drives nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

MEGABYTE = 1_000_000  # as performance figures are given; not MiB

# Linux: the processor clock of another process, in nanoseconds. /proc/PID/stat counts the same in steps of 10 ms.
_SCHED_CLOCK = 2


def clock_id(pid: int) -> int:
    """Return the id of the processor-time clock of a process, as the kernel composes it from the pid."""
    return (~pid << 3) | _SCHED_CLOCK


def cpu_seconds(pid: int) -> float:
    """Return user plus system seconds of one process, its ended threads included.

    The kernel books a running thread's time at ticks only; it is exact once the process has come to rest.
    """
    if sys.platform == "linux":
        return time.clock_gettime(clock_id(pid))
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def waited_seconds(pid: int) -> float:
    """Return how long the main thread of a process was ready but had no core: other programs had it. 0.0 off Linux."""
    if sys.platform != "linux":
        return 0.0
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def tree(pid: int) -> list[int]:
    """Return the pid and those of all living descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def snapshot(pid: int) -> dict[int, float]:
    """Return the processor seconds of each process of a tree."""
    seconds = {}
    for member in tree(pid):
        try:
            seconds[member] = cpu_seconds(member)
        except (OSError, psutil.NoSuchProcess):  # ended meanwhile
            continue
    return seconds


def busiest(seconds: Mapping[int, float], count: int) -> list[int]:
    """Return the `count` processes that used most: the workers of a tree, after a load."""
    return sorted(seconds, key=lambda pid: seconds[pid], reverse=True)[:count]


class Meter:
    """Reads the processor seconds of a tree whose processes stay the same: cheaply, so that it can be done often."""

    def __init__(self, pid: int) -> None:
        self._pids = tree(pid)

    def read(self) -> float:
        """Return the seconds of all processes together; raises OSError or NoSuchProcess when one has ended."""
        return sum(map(cpu_seconds, self._pids))

    def waited(self) -> float:
        """Return the seconds that their main threads waited for a core."""
        return sum(map(waited_seconds, self._pids))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process: resident, its share of shared pages counted in parts, and what is its alone."""

    resident: int
    proportional: int
    unique: int


def memory(pid: int) -> Memory:
    """Return what one process holds in memory."""
    full = psutil.Process(pid).memory_full_info()
    return Memory(full.rss, getattr(full, "pss", full.rss), full.uss)


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, on `cores`; without cores, or elsewhere, nothing changes."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
