"""The watch over one model process: it is loaded in time, it answers, its engine moves, it takes no more memory than it may.

The process is asked over the pipes that it has with its parent; on its socket a question would be taken for a caller, and
would wait among them. What becomes of a process that is given up is decided in `model_process.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.processes.activity import Activity, activity_of
from gateway.processes.memory import private_bytes
from gateway.processes.supervision import Child

QUESTION = b"alive?\n"
FAREWELL = b"leave\n"

LOOK_SECONDS = 5.0  # between two questions
MOST_STRIKES = 3  # looks in a row at which all was not well: this machine may have slept at one
MEMORY_LOOK_SECONDS = 1.0

_GIBIBYTE = 1 << 30
_LOADING_SECONDS, _LOADING_SECONDS_A_GIBIBYTE = 300.0, 120.0
# A quarter of the speed that one thread of an old processor has, for the longest piece that the engine computes at once.
_SILENT_SECONDS, _SILENT_SECONDS_A_TOKEN_AND_GIBIBYTE = 60.0, 0.25
# What was measured may have been short texts, for which a token takes less, on a machine that had nothing else to do.
_TIMES_SLOWER = 12.0
# A process that neither computes nor reads from the disk does not work, however long its work may take.
_STILL_SECONDS, _STILL_CPU_SECONDS = 60.0, 1.0

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a model of `size` bytes may take to be loaded, and how long its engine may be silent, in seconds.

    `memory_bytes` is what its process may have to itself, None for no limit.
    """

    size: int
    memory_bytes: int | None = None

    @property
    def loading(self) -> float:
        return _LOADING_SECONDS + _LOADING_SECONDS_A_GIBIBYTE * self.size / _GIBIBYTE

    def silent(self, step_tokens: int, seconds_a_token: float | None = None) -> float:
        """Return the limit of an engine that computes up to `step_tokens` tokens before it can say anything.

        `seconds_a_token` is what it took of late, None where that is not known.
        """
        a_token = _SILENT_SECONDS_A_TOKEN_AND_GIBIBYTE * self.size / _GIBIBYTE
        if seconds_a_token is not None:
            a_token = min(a_token, _TIMES_SLOWER * seconds_a_token)
        return _SILENT_SECONDS + a_token * step_tokens


class Stillness:
    """How long a silent process has done nothing, by what the system counts of its work."""

    def __init__(self) -> None:
        self._since = 0.0  # in seconds of its silence
        self._done: Activity | None = None

    def note(self, silent_seconds: float, done: Activity | None) -> float:
        """Return for how much of its silence it has done nothing, where it has `done` so much in all."""
        if done is None or self._done is None or silent_seconds < self._since or _moved(self._done, done):
            self._since, self._done = silent_seconds, done
        return silent_seconds - self._since


def _moved(before: Activity, now: Activity) -> bool:
    return now.cpu_seconds - before.cpu_seconds >= _STILL_CPU_SECONDS or now.page_reads > before.page_reads


class Vigil:
    """Watches one process, from its start on."""

    def __init__(self, child: Child, limits: Limits, sleep: Sleep) -> None:
        self._child = child
        self._limits = limits
        self._sleep = sleep
        self._loaded = asyncio.Event()
        self._step_tokens = 0
        self._is_asked = False
        self._silent = 0.0
        self._still = 0.0
        self._stillness = Stillness()
        self._seconds_a_token: float | None = None

    async def keep(self) -> str:
        """Return why the process must be given up, as a sentence for callers, once that is so."""
        watches = [asyncio.create_task(self._watch_life())]
        if self._limits.memory_bytes is not None:
            watches.append(asyncio.create_task(self._watch_memory(self._limits.memory_bytes)))
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for watch in watches:
                watch.cancel()

    def note_ready(self, event: Mapping[str, Any]) -> None:
        """Take note that the model is loaded."""
        tokens = event.get("step_tokens")
        self._step_tokens = tokens if isinstance(tokens, int) else 0
        self._loaded.set()

    def note_answer(self, event: Mapping[str, Any]) -> None:
        """Take note of the process's answer, which says how long its engine has been silent, and how fast it was before."""
        seconds = event.get("silent_seconds")
        self._silent = float(seconds) if isinstance(seconds, int | float) else 0.0
        self._still = self._stillness.note(self._silent, activity_of(self._child.pid))
        measured = event.get("seconds_a_token")
        self._seconds_a_token = float(measured) if isinstance(measured, int | float) else None
        self._is_asked = False

    async def _watch_life(self) -> str:
        try:
            async with asyncio.timeout(self._limits.loading):
                await self._loaded.wait()
        except TimeoutError:
            return "it was not loaded in time."
        strikes = 0
        reason = ""
        while strikes < MOST_STRIKES:
            if not self._is_asked:
                self._is_asked = True
                await self._child.write(QUESTION)
            await self._sleep(LOOK_SECONDS)
            reason = self._complaint()
            strikes = strikes + 1 if reason else 0
        return reason

    def _complaint(self) -> str:
        if self._is_asked:
            return "its process did not answer any more."
        limit = self._limits.silent(self._step_tokens, self._seconds_a_token)
        if self._silent > limit or self._still > _STILL_SECONDS:
            return "it was at work without getting on."
        return ""

    async def _watch_memory(self, limit: int) -> str:
        """Look at the memory as well, because the process's own limit only lets allocations fail."""
        while (private_bytes(self._child.pid) or 0) <= limit:
            await self._sleep(MEMORY_LOOK_SECONDS)
        return "it took more memory than it may."
