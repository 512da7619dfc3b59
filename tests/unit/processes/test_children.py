"""A model process's state is always on paper, and what cannot be loaded is not tried again and again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.processes.assignment import Assignment
from gateway.processes.children import (
    BAD_MODEL,
    HOPELESS_SECONDS,
    LOOK_SECONDS,
    NO_ENGINE,
    HttpWorker,
    ModelPlan,
    ModelProcess,
    model_environment,
    program,
)
from gateway.processes.supervision import Stop, Timing
from gateway.rundir import ModelStatus, read_status
from gateway.worker import EXIT_BAD_MODEL, EXIT_NO_ENGINE

READY = 'print(\'{"event": "ready"}\', flush=True); '
UNTIL_LEFT = "import sys; sys.stdin.read()"


def plan(tmp_path: Path, code: str, *, exists: bool = True) -> ModelPlan:
    file = tmp_path / "model.gguf"
    if exists:
        file.write_bytes(b"GGUF")
    command = (sys.executable, "-S", "-c", code)
    return ModelPlan("local/tiny", command, file, "fetch it with: gateway models add tiny", tmp_path / "tiny.json")


def sleepless(on_sleep: Callable[[float], None]) -> Timing:
    async def sleep(seconds: float) -> None:
        on_sleep(seconds)
        await asyncio.sleep(0)

    return Timing(sleep=sleep)


async def until(model_plan: ModelPlan, state: str) -> ModelStatus:
    async with asyncio.timeout(10):
        while (status := read_status(model_plan.status)).state != state:
            await asyncio.sleep(0.01)
    return status


async def test_a_model_is_starting_then_ready(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "input(); " + READY + UNTIL_LEFT)
    model = ModelProcess(wanted, Timing())
    living = asyncio.create_task(model.live())

    assert (await until(wanted, "starting")).reason == ""
    living.cancel()
    await model.end(Stop())


async def test_a_model_that_says_so_is_ready_and_ends_when_told(tmp_path: Path) -> None:
    wanted = plan(tmp_path, READY + UNTIL_LEFT)
    model = ModelProcess(wanted, Timing())
    living = asyncio.create_task(model.live())

    status = await until(wanted, "ready")
    living.cancel()

    assert status.reason == ""
    await asyncio.wait_for(model.end(Stop()), timeout=5)


async def test_a_crash_is_told_with_its_signal_while_the_model_restarts(tmp_path: Path) -> None:
    wanted = plan(tmp_path, READY + "import os; os.kill(os.getpid(), 11)")
    model = ModelProcess(wanted, Timing())

    await model.live()
    model.rest(0.5)

    assert read_status(wanted.status) == ModelStatus("restarting", "its process ended (killed by SIGSEGV).")


async def test_starts_are_counted_in_the_log_and_in_the_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(tmp_path, "pass")
    model = ModelProcess(wanted, Timing())

    await model.live()
    await model.live()
    model.rest(0.5)

    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["event"], last["starts"]) == ("model_restarting", 2)
    assert read_status(wanted.status).restarts == 1


@pytest.mark.parametrize(
    ("code", "matter", "told"),
    [
        (BAD_MODEL, "its file is damaged: truncated", "its file is damaged: truncated."),
        (BAD_MODEL, "", "its file cannot be loaded."),
        (NO_ENGINE, "", "its engine is not installed or does not run here."),
    ],
)
async def test_a_model_that_cannot_be_loaded_waits_until_its_file_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, matter: str, told: str
) -> None:
    said = json.dumps({"event": "failed", "reason": "mine.gguf: pip install something", "matter": matter})
    failure = f"print({said!r}); import sys; sys.exit({code})"
    wanted = plan(tmp_path, failure)
    sleeps: list[float] = []
    seen: list[ModelStatus] = []

    def on_sleep(seconds: float) -> None:
        sleeps.append(seconds)
        seen.append(read_status(wanted.status))
        if len(sleeps) == 3:
            wanted.file.write_bytes(b"GGUF, now whole")

    await ModelProcess(wanted, sleepless(on_sleep)).live()

    assert sleeps == [HOPELESS_SECONDS] * 3
    assert seen == [ModelStatus("failed", told)] * 3
    assert json.loads(capsys.readouterr().err)["reason"] == "mine.gguf: pip install something."


async def test_a_missing_file_is_told_its_remedy_is_logged_and_it_is_taken_when_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(tmp_path, "pass", exists=False)
    seen: list[ModelStatus] = []

    def on_sleep(seconds: float) -> None:
        assert seconds == LOOK_SECONDS
        seen.append(read_status(wanted.status))
        wanted.file.write_bytes(b"GGUF")

    await ModelProcess(wanted, sleepless(on_sleep)).live()

    assert seen == [ModelStatus("failed", "its file is missing.")]
    missing = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (missing["file"], missing["remedy"]) == (str(wanted.file), "fetch it with: gateway models add tiny")
    assert read_status(wanted.status).state == "starting"


async def test_a_program_that_is_not_there_is_an_end_like_any_other(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "import no_such_module")
    model = ModelProcess(wanted, Timing())

    await model.live()
    model.rest(0.5)

    assert read_status(wanted.status).reason == "its process ended (exit code 1)."


async def test_a_reason_of_any_kind_is_kept_short_and_printable(tmp_path: Path) -> None:
    said = r"""print('{"event": "failed", "matter": "bad \\ud800 ' + 'x' * 3000 + '"}')"""
    wanted = plan(tmp_path, said)
    model = ModelProcess(wanted, Timing())

    await model.live()
    model.rest(0.5)

    reason = read_status(wanted.status).reason
    assert reason.startswith("bad ? xxx")
    assert len(reason) == 301
    assert reason.endswith("x.")


async def test_a_state_that_cannot_be_written_does_not_end_the_model(tmp_path: Path) -> None:
    wanted = replace(plan(tmp_path, "pass"), status=tmp_path / "no such directory" / "tiny.json")
    model = ModelProcess(wanted, Timing())

    await model.live()
    model.rest(0.5)


def test_a_model_process_sees_no_keys() -> None:
    environ = {"PATH": "/bin", "OPENAI_API_KEY": "k", "APP_KEY": "k", "LD_LIBRARY_PATH": "/lib", "OMP_NUM_THREADS": "2"}

    assert model_environment(environ) == {"PATH": "/bin", "LD_LIBRARY_PATH": "/lib", "OMP_NUM_THREADS": "2"}


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


def test_the_exit_codes_are_those_of_the_worker() -> None:
    assert (BAD_MODEL, NO_ENGINE) == (EXIT_BAD_MODEL, EXIT_NO_ENGINE)
