"""The two kinds of child the gateway has: processes that answer HTTP, and processes that run one local model each.

How a process is started, kept and ended in general lives in `supervision.py`; when, in `parent.py`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import logs
from gateway.processes.assignment import Assignment
from gateway.processes.supervision import Child, Stop, Timing, cause_of
from gateway.rundir import ModelState, ModelStatus, write_status

BAD_MODEL = 65  # the file is not a model that can be loaded
NO_ENGINE = 69  # the llama.cpp binding is not installed or does not run on this processor
LOOK_SECONDS = 2.0  # how often a missing file is looked for
HOPELESS_SECONDS = 30.0  # how often a file that could not be loaded is looked at again

LONGEST_REASON = 300  # characters
HOPELESS_REASONS = {
    BAD_MODEL: "its file cannot be loaded",
    NO_ENGINE: "its engine is not installed or does not run here",
}

Print = tuple[int, int, int]  # inode, size in bytes, nanoseconds of the last change

# After SIGTERM and its patience a worker is told to end now, which still lets it write what it owes.
WORKER_NOW_SECONDS = 0.7
MODEL_PATIENCE_SECONDS = 0.4  # a model process has nothing to lose once no worker speaks to it

# llama.cpp parses files from strangers, so its process sees the machine's settings but none of the API keys.
_SAFE_NAMES = frozenset({"HOME", "LANG", "PATH", "SYSTEMROOT", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"})
_SAFE_PREFIXES = ("CUDA_", "DYLD_", "GGML_", "GOMP_", "HIP_", "LC_", "LD_", "LLAMA_", "OMP_", "PYTHON", "ROCR_")


def program(module: str) -> list[str]:
    """Return the start of a command that runs one of our modules in a fresh interpreter.

    The working directory stays off its import path, unless that is where this process found the package.
    """
    found_here = not sys.flags.safe_path and Path(sys.path[0]) == Path(__file__).parent.parent
    return [sys.executable, *([] if found_here else ["-P"]), "-m", module]


def model_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a model process may see of the environment."""
    return {name: value for name, value in environ.items() if name in _SAFE_NAMES or name.startswith(_SAFE_PREFIXES)}


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


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model to run: the command of its process, the file it needs, how to get that file, where its state goes."""

    name: str
    command: tuple[str, ...]
    file: Path
    remedy: str
    status: Path


class ModelProcess:
    """One process that runs one model; its state is written where HTTP workers read it.

    Callers are told what is the matter; paths, commands and the words of libraries go to the log alone.
    """

    def __init__(self, plan: ModelPlan, timing: Timing) -> None:
        self._plan = plan
        self._timing = timing
        self._child: Child | None = None
        self._reason = ""  # for callers
        self._details = ""  # for the log
        self._starts = 0

    async def live(self) -> None:
        """Run until the process ends, or for as long as starting it again would end the same way."""
        await self._until_present()
        self._starts += 1
        seen = _print_of(self._plan.file)
        self._reason = self._details = ""
        self._write("starting")
        child = self._child = await Child.start(
            self._plan.command, model_environment(os.environ), self._take, self._pass_on
        )
        code = await child.ended()
        self._child = None
        ended = f"its process ended ({cause_of(code)})."
        self._reason = self._reason or _sentence(HOPELESS_REASONS.get(code, "")) or ended
        details = self._details or ended
        logs.event("model_ended", level="error", model=self._plan.name, cause=cause_of(code), reason=details)
        if code in (BAD_MODEL, NO_ENGINE):
            self._write("failed")
            await self._until_changed(seen)

    def rest(self, seconds: float) -> None:
        logs.event("model_restarting", model=self._plan.name, seconds=round(seconds, 3), starts=self._starts)
        self._write("restarting")

    async def end(self, stop: Stop) -> None:
        if self._child is not None:
            await self._child.end(((signal.SIGTERM, MODEL_PATIENCE_SECONDS),), stop.insisted)
            self._child = None

    async def _until_present(self) -> None:
        if self._plan.file.is_file():
            return
        self._reason = "its file is missing."
        logs.event(
            "model_missing", level="error", model=self._plan.name, file=str(self._plan.file), remedy=self._plan.remedy
        )
        self._write("failed")
        while not self._plan.file.is_file():
            await self._timing.sleep(LOOK_SECONDS)

    async def _until_changed(self, seen: Print | None) -> None:
        changed = False
        while not changed:
            await self._timing.sleep(HOPELESS_SECONDS)
            changed = _print_of(self._plan.file) != seen

    def _take(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "ready":
            self._write("ready")
            told = {name: str(event.get(name)) for name in ("engine", "load_seconds", "context_window", "threads")}
            logs.event("model_ready", model=self._plan.name, **told)
        elif event.get("event") == "failed":
            self._details = _sentence(str(event.get("reason", "")))
            self._reason = _sentence(str(event.get("matter", "")))
        else:
            self._pass_on(str(event.get("line", "")))

    def _pass_on(self, line: str) -> None:
        logs.event("model_log", level="debug", model=self._plan.name, line=line)

    def _write(self, state: ModelState) -> None:
        try:
            write_status(self._plan.status, ModelStatus(state, self._reason, max(0, self._starts - 1)))
        except OSError as error:  # a full disk must not end the gateway
            logs.event("status_not_written", level="error", model=self._plan.name, reason=str(error))


def _sentence(clause: str) -> str:
    # Text out of a model's file may be anything; what is not Unicode would not go into a log line.
    cut = clause.encode(errors="replace").decode().strip()[:LONGEST_REASON]
    return cut if not cut or cut.endswith(".") else f"{cut}."


def _print_of(file: Path) -> Print | None:
    """Return what changes when a file is written or replaced, None while there is none."""
    try:
        known = file.stat()
    except OSError:
        return None
    return known.st_ino, known.st_size, known.st_mtime_ns
