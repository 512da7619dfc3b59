"""What a process has done so far, as the system counts it: the sign of life of one that cannot say anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_USER_TIME, _SYSTEM_TIME, _MAJOR_FAULTS = 11, 12, 9  # places behind the name in /proc/PID/stat


class Activity(NamedTuple):
    """`cpu_seconds` of all its threads; `page_reads` is how often it had to wait for the disk."""

    cpu_seconds: float
    page_reads: int


def activity_of(pid: int) -> Activity | None:
    """Return what the process has done so far, None where the system does not say."""
    try:
        # The name may have spaces and parentheses, and ends at the last one.
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        ticks = int(words[_USER_TIME]) + int(words[_SYSTEM_TIME])
        return Activity(ticks / os.sysconf("SC_CLK_TCK"), int(words[_MAJOR_FAULTS]))
    except (OSError, IndexError, ValueError):
        return None
