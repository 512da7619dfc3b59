"""The child that answers HTTP, and how a module of ours is started.

How a process is started, kept and ended in general lives in `supervision.py`; when, in `parent.py`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway import logs
from gateway.processes.assignment import Assignment
from gateway.processes.supervision import Child, Stop

# After SIGTERM and its patience a worker is told to end now, which still lets it write what it owes.
WORKER_NOW_SECONDS = 0.7


def program(module: str) -> list[str]:
    """Return the start of a command that runs one of our modules in a fresh interpreter.

    The working directory stays off its import path, unless that is where this process found the package.
    """
    found_here = not sys.flags.safe_path and Path(sys.path[0]) == Path(__file__).parent.parent
    return [sys.executable, *([] if found_here else ["-P"]), "-m", module]


class HttpWorker:
    """One process that answers HTTP. It may be started before its assignment is known, to warm up meanwhile."""

    def __init__(
        self, command: Sequence[str], on_ready: Callable[[int], None], on_death: Callable[[int, int], None]
    ) -> None:
        self._command = command
        self._on_ready = on_ready
        self._on_death = on_death
        self._child: Child | None = None

    async def start(self) -> Child:
        self._child = await Child.start(self._command, os.environ, self._take)
        return self._child

    async def live(self, assignment: Assignment) -> None:
        """Serve until the process ends; `on_death` is told its process id and exit code."""
        child = self._child or await self.start()
        await child.write(assignment.encode())
        code = await child.ended()
        self._child = None
        self._on_death(child.pid, code)

    def rest(self, seconds: float) -> None:
        logs.event("worker_restarting", seconds=round(seconds, 3))

    async def end(self, stop: Stop, patience_seconds: float) -> None:
        if self._child is not None:
            steps = ((signal.SIGTERM, patience_seconds), (signal.SIGINT, WORKER_NOW_SECONDS))
            await self._child.end(steps, stop.insisted)
            self._child = None

    def _take(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "ready":
            self._on_ready(int(event.get("pid", 0)))
        else:
            logs.event("worker_output", level="warning", line=str(event.get("line", "")))
