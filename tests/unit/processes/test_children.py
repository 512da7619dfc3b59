"""A worker gets what it is to do, and its end is told."""

from __future__ import annotations

import sys

from gateway.processes.assignment import Assignment
from gateway.processes.children import HttpWorker, program

READY = 'print(\'{"event": "ready"}\', flush=True); '


def test_our_modules_run_in_the_same_interpreter() -> None:
    command = program("gateway.processes.serving")

    assert command[0] == sys.executable
    assert command[-2:] == ["-m", "gateway.processes.serving"]


ASSIGNED = "import json; run = json.loads(input())['run_dir']; " + READY + "import sys; sys.exit(int(run))"


async def test_a_worker_gets_its_assignment_and_its_end_is_told() -> None:
    ready: list[int] = []
    deaths: list[int] = []
    command = [sys.executable, "-S", "-c", ASSIGNED]
    worker = HttpWorker(command, ready.append, lambda _pid, code: deaths.append(code))

    await worker.start()
    await worker.live(Assignment("g.yaml", "", None, None, (), "7"))
    await worker.live(Assignment("g.yaml", "", None, None, (), "8"))

    assert ready == [0, 0]
    assert deaths == [7, 8]
