"""The watch over one model process: it is loaded in time, it answers, its engine moves, it takes no more memory than it may.

The process is asked over the pipes that it has with its parent; on its socket a question would be taken for a caller, and
would wait among them. What becomes of a process that is given up is decided in `model_process.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

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

    def silent(self, step_tokens: int) -> float:
        """Return the limit of an engine that computes up to `step_tokens` tokens before it can say anything."""
        return _SILENT_SECONDS + _SILENT_SECONDS_A_TOKEN_AND_GIBIBYTE * step_tokens * self.size / _GIBIBYTE


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
        """Take note of the process's answer, which says how long its engine has been silent."""
        seconds = event.get("silent_seconds")
        self._silent = float(seconds) if isinstance(seconds, int | float) else 0.0
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
        if self._silent > self._limits.silent(self._step_tokens):
            return "it was at work without getting on."
        return ""

    async def _watch_memory(self, limit: int) -> str:
        """Look at the memory as well, because the process's own limit only lets allocations fail."""
        while (private_bytes(self._child.pid) or 0) <= limit:
            await self._sleep(MEMORY_LOOK_SECONDS)
        return "it took more memory than it may."
