"""The child that runs one local model: loaded at the start or when first asked, unloaded, loaded again.

Its socket is kept by `door.py`, its share of the memory by `memory.py`, and whether it still moves is seen in `vigil.py`; how
a process is kept alive in general lives in `supervision.py`, and what it runs in `worker/`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any

from gateway import logs
from gateway.processes.door import Door
from gateway.processes.memory import Budget, Tenant, TooLarge, estimate, mebibytes, resident_bytes
from gateway.processes.model_plan import ModelPlan, Print, model_environment, print_of
from gateway.processes.model_words import ended, is_hopeless, reason_of, sentence
from gateway.processes.supervision import Child, Stop, Timing, cause_of
from gateway.processes.vigil import FAREWELL, Limits, Vigil
from gateway.rundir import ModelState, ModelStatus, write_status

LOOK_SECONDS = 2.0  # how often a missing file is looked for
HOPELESS_SECONDS = 30.0  # how often a file that could not be loaded is looked at again
FRESH_SECONDS = 5.0  # how long a loaded model is kept for whoever asked for it, before it counts as idle
# How long a process that makes room may take for the answers it has begun: longer than any of them may last by default,
# since none is interrupted for another; one that hangs is found by the vigil.
LEAVING_SECONDS = 3600.0
PATIENCE_SECONDS = 0.4  # a model process has nothing to lose once no worker speaks to it


class ModelProcess:
    """One model and the process that runs it, if any; its state is written where HTTP workers read it.

    Callers are told what is the matter; paths, commands and the words of libraries go to the log alone.
    """

    def __init__(self, plan: ModelPlan, timing: Timing, budget: Budget) -> None:
        self._plan = plan
        self._timing = timing
        self._budget = budget
        self._door = Door(plan.socket)
        self._tenant = Tenant(plan.name, self._see_off)
        self._child: Child | None = None
        self._vigil: Vigil | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._calming: asyncio.Task[None] | None = None
        self._sleeps = not plan.loads_at_start
        self._leaves = ""  # why the process ends, if that is no failure
        self._is_hopeless = False
        self._seen: Print | None = None  # the file that is run
        self._measured: tuple[Print | None, int] | None = None  # a file and what it took once it was loaded
        self._reason = ""  # for callers
        self._details = ""  # for the log
        self._has_failed = False
        self._began = 0.0
        self._starts = 0
        self._restarts = 0

    async def live(self) -> None:
        """Run until the process fails, or for as long as starting it again would end the same way.

        Being unloaded is no end: the model then sleeps until somebody connects.
        """
        while True:
            self._door.open()
            await self._until_present()
            is_asked = self._sleeps
            if is_asked:
                await self._until_asked()
            self._seen = print_of(self._plan.file)
            self._reason = self._details = ""
            self._is_hopeless = False
            try:
                self._sleeps = not await self._find_room(is_asked) or await self._run(is_asked)
            except TooLarge as error:
                self._give_up(error)
                logs.event("model_too_large", level="error", model=self._plan.name, reason=self._reason)
            if self._is_hopeless:
                await self._despair()
            if not self._sleeps:
                return

    def rest(self, seconds: float) -> None:
        logs.event("model_restarting", model=self._plan.name, seconds=round(seconds, 3), starts=self._starts)
        self._door.turn_away()  # whoever waits is told now and not after the rest
        self._write("restarting")

    async def end(self, stop: Stop) -> None:
        """End the process, if there is one, and listen no more."""
        if self._child is not None:
            await self._child.end(((signal.SIGTERM, PATIENCE_SECONDS),), stop.insisted)
            self._child = None
        self._door.close()

    def _see_off(self, reason: str) -> None:
        """Have the process answer what it has and end; who connects from now on waits until the model is loaded again."""
        child = self._child
        if child is not None:
            self._leaves = "evicted"
            logs.event("model_evicted", model=self._plan.name, reason=reason, mebibytes=mebibytes(self._tenant.takes))
            self._leaving = asyncio.create_task(self._part(child))
            self._write("loading")  # who connects from now on is not met before that

    async def _part(self, child: Child) -> None:
        await child.write(FAREWELL)
        await self._timing.sleep(LEAVING_SECONDS)
        child.kill()

    async def _until_present(self) -> None:
        if self._plan.file.is_file():
            return
        self._reason = "its file is missing."
        logs.event(
            "model_missing", level="error", model=self._plan.name, file=str(self._plan.file), remedy=self._plan.remedy
        )
        self._door.turn_away()
        self._write("failed")
        while not self._plan.file.is_file():
            await self._timing.sleep(LOOK_SECONDS)

    async def _until_asked(self) -> None:
        self._reason = ""
        self._door.let_wait()
        self._write("idle")
        await self._door.knock()
        await self._until_present()

    async def _find_room(self, is_asked: bool) -> bool:
        """Return whether there is memory now; a model that somebody wants waits for it. Raises TooLarge."""
        known = self._measured
        self._tenant.takes = known[1] if known and known[0] == self._seen else estimate(self._plan.file)
        self._budget.check(self._tenant)
        if is_asked:
            self._write("loading")
            await self._budget.admit(self._tenant, self._wait, self._plan.max_wait)
            return True
        if self._budget.admit_if_free(self._tenant):
            return True
        logs.event("model_deferred", model=self._plan.name, mebibytes=mebibytes(self._tenant.takes))
        return False

    def _wait(self) -> None:
        logs.event("model_waiting", model=self._plan.name, mebibytes=mebibytes(self._tenant.takes))
        self._door.turn_away()
        self._write("waiting")

    async def _run(self, is_asked: bool) -> bool:
        """Run the process until it ends and return whether the model was unloaded."""
        self._starts += 1
        self._restarts += self._has_failed
        self._has_failed = False
        self._leaves = ""
        if is_asked:
            self._door.let_wait()
        else:
            self._door.turn_away()
        self._write("loading" if is_asked else "starting")
        logs.event(
            "model_loading",
            model=self._plan.name,
            file=str(self._plan.file),
            mebibytes=mebibytes(self._seen[1]) if self._seen else None,
        )
        self._began = self._timing.clock()
        guarding = None
        try:
            listening = self._door.descriptor()
            child = self._child = await Child.start(
                (*self._plan.command, f"--listen-fd={listening}"),
                model_environment(os.environ),
                self._take,
                self._pass_on,
                (listening,),
            )
            limits = Limits(self._seen[1] if self._seen else 0, self._budget.limit_bytes)
            self._vigil = Vigil(child, limits, self._timing.sleep)
            guarding = asyncio.create_task(self._guard(child, self._vigil))
            code = await child.ended()
        finally:
            for task in (guarding, self._leaving, self._calming):
                if task is not None:
                    task.cancel()
            self._budget.release(self._tenant)
        self._child = None
        return self._tell_end(code)

    async def _guard(self, child: Child, vigil: Vigil) -> None:
        self._reason = self._details = await vigil.keep()
        child.kill()

    def _tell_end(self, code: int) -> bool:
        if self._leaves == "evicted" and code == 0:
            return True
        if self._leaves == "unloaded" and code == 0:
            logs.event("model_unloaded", model=self._plan.name, reason=self._details or "not used")
            return True
        self._has_failed = self._leaves != "evicted"
        self._reason = self._reason or reason_of(code, is_limited=self._budget.limit_bytes is not None)
        details = self._details or ended(code)
        logs.event("model_ended", level="error", model=self._plan.name, cause=cause_of(code), reason=details)
        self._is_hopeless = self._is_hopeless or is_hopeless(code)
        return self._leaves == "evicted"

    async def _despair(self) -> None:
        """Wait until the file has changed."""
        self._door.turn_away()
        self._write("failed")
        changed = False
        while not changed:
            await self._timing.sleep(HOPELESS_SECONDS)
            changed = print_of(self._plan.file) != self._seen

    def _take(self, event: Mapping[str, Any]) -> None:
        match event.get("event"):
            case "ready":
                self._note_ready(event)
            case "alive" if self._vigil is not None:
                self._vigil.note_answer(event)
            case "busy":
                self._calm_down()
                self._tenant.is_busy = True
            case "idle":
                self._measure()
                self._budget.note_idle(self._tenant, self._timing.clock())
            case "leaving":
                self._write("loading")
            case "unloaded":
                self._leaves = self._leaves or "unloaded"
                self._details = str(event.get("reason", ""))
            case "failed":
                self._details = sentence(str(event.get("reason", "")))
                self._reason = sentence(str(event.get("matter", "")))
            case _:
                self._pass_on(str(event.get("line", "")))

    def _note_ready(self, event: Mapping[str, Any]) -> None:
        if self._measure():
            self._measured = (self._seen, self._tenant.takes)
        try:
            self._budget.check(self._tenant)
        except TooLarge as error:
            self._give_up(error)
            if self._child is not None:
                self._child.kill()
            return
        if self._vigil is not None:
            self._vigil.note_ready(event)
        self._budget.start_turn(self._tenant, self._timing.clock() - self._began)
        self._door.let_wait()
        self._write("ready")
        told = {name: str(event.get(name)) for name in ("engine", "load_seconds", "context_window", "threads")}
        logs.event("model_ready", model=self._plan.name, mebibytes=mebibytes(self._tenant.takes), **told)
        self._calming = asyncio.create_task(self._become_idle())

    def _give_up(self, error: TooLarge) -> None:
        self._reason = self._details = sentence(str(error))
        self._is_hopeless = True

    def _measure(self) -> bool:
        """Take the size of the process into account and return whether it could be had."""
        takes = resident_bytes(self._child.pid) if self._child is not None else None
        if takes:
            self._budget.measure(self._tenant, takes)
        return bool(takes)

    async def _become_idle(self) -> None:
        await self._timing.sleep(FRESH_SECONDS)
        self._budget.note_idle(self._tenant, self._timing.clock())

    def _calm_down(self) -> None:
        if self._calming is not None:
            self._calming.cancel()
            self._calming = None

    def _pass_on(self, line: str) -> None:
        logs.event("model_log", level="debug", model=self._plan.name, line=line)

    def _write(self, state: ModelState) -> None:
        try:
            write_status(self._plan.status, ModelStatus(state, self._reason, self._restarts))
        except OSError as error:  # a full disk must not end the gateway
            logs.event("status_not_written", level="error", model=self._plan.name, reason=str(error))
