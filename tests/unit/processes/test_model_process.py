"""A model process's state is always on paper, and what cannot be loaded is not tried again and again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.processes.memory import Budget
from gateway.processes.model_plan import ModelPlan, model_environment
from gateway.processes.model_process import HOPELESS_SECONDS, LEAVING_SECONDS, LOOK_SECONDS, ModelProcess
from gateway.processes.model_words import BAD_MODEL, NO_ENGINE
from gateway.processes.supervision import Stop, Timing
from gateway.providers import LocalModelSettings
from gateway.routing import TimeoutSettings
from gateway.rundir import ModelStatus, read_status
from gateway.worker import EXIT_BAD_MODEL, EXIT_NO_ENGINE

READY = 'print(\'{"event": "ready"}\', flush=True); '
UNTIL_LEFT = "import sys; sys.stdin.read()"


Make = Callable[..., ModelProcess]


def plan(short_path: Path, code: str, *, exists: bool = True, **fields: Any) -> ModelPlan:
    file = short_path / "model.gguf"
    if exists:
        file.write_bytes(b"GGUF")
    command = (sys.executable, "-S", "-c", code)
    remedy = "fetch it with: gateway models add tiny"
    return ModelPlan("local/tiny", command, file, remedy, short_path / "tiny.json", short_path / "tiny.sock", **fields)


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


async def test_a_model_is_starting_then_ready(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, "input(); " + READY + UNTIL_LEFT)
    model = make(wanted)
    living = asyncio.create_task(model.live())

    assert (await until(wanted, "starting")).reason == ""
    living.cancel()


async def test_a_model_that_says_so_is_ready_and_ends_when_told(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, READY + UNTIL_LEFT)
    model = make(wanted)
    living = asyncio.create_task(model.live())

    status = await until(wanted, "ready")
    living.cancel()

    assert status.reason == ""
    await asyncio.wait_for(model.end(Stop()), timeout=5)


async def test_a_crash_is_told_with_its_signal_while_the_model_restarts(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, READY + "import os; os.kill(os.getpid(), 11)")
    model = make(wanted)

    await model.live()
    model.rest(0.5)

    assert read_status(wanted.status) == ModelStatus("restarting", "its process ended (killed by SIGSEGV).")


async def test_starts_are_counted_in_the_log_and_in_the_state(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(short_path, "pass")
    model = make(wanted)

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
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str], code: int, matter: str, told: str
) -> None:
    said = json.dumps({"event": "failed", "reason": "mine.gguf: pip install something", "matter": matter})
    failure = f"print({said!r}); import sys; sys.exit({code})"
    wanted = plan(short_path, failure)
    sleeps: list[float] = []
    seen: list[ModelStatus] = []

    def on_sleep(seconds: float) -> None:
        sleeps.append(seconds)
        seen.append(read_status(wanted.status))
        if len(sleeps) == 3:
            wanted.file.write_bytes(b"GGUF, now whole")

    await make(wanted, sleepless(on_sleep)).live()

    assert sleeps == [HOPELESS_SECONDS] * 3
    assert seen == [ModelStatus("failed", told)] * 3
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["reason"] == "mine.gguf: pip install something."


async def test_with_a_limit_of_memory_that_may_be_why_a_model_cannot_be_loaded(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, f"import sys; sys.exit({BAD_MODEL})")
    seen: list[ModelStatus] = []

    def on_sleep(_seconds: float) -> None:
        seen.append(read_status(wanted.status))
        wanted.file.write_bytes(b"GGUF, now whole")

    await make(wanted, sleepless(on_sleep), Budget(1 << 40)).live()

    reason = "its file cannot be loaded, or not in the memory that it may take."
    assert seen[-1] == ModelStatus("failed", reason)


async def test_a_missing_file_is_told_its_remedy_is_logged_and_it_is_taken_when_it_comes(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(short_path, "pass", exists=False)
    seen: list[ModelStatus] = []

    def on_sleep(seconds: float) -> None:
        assert seconds == LOOK_SECONDS
        seen.append(read_status(wanted.status))
        wanted.file.write_bytes(b"GGUF")

    await make(wanted, sleepless(on_sleep)).live()

    assert seen == [ModelStatus("failed", "its file is missing.")]
    missing = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (missing["file"], missing["remedy"]) == (str(wanted.file), "fetch it with: gateway models add tiny")
    assert read_status(wanted.status).state == "starting"


async def test_a_program_that_is_not_there_is_an_end_like_any_other(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, "import no_such_module")
    model = make(wanted)

    await model.live()
    model.rest(0.5)

    assert read_status(wanted.status).reason == "its process ended (exit code 1)."


async def test_a_reason_of_any_kind_is_kept_short_and_printable(short_path: Path, make: Make) -> None:
    said = r"""print('{"event": "failed", "matter": "bad \\ud800 ' + 'x' * 3000 + '"}')"""
    wanted = plan(short_path, said)
    model = make(wanted)

    await model.live()
    model.rest(0.5)

    reason = read_status(wanted.status).reason
    assert reason.startswith("bad ? xxx")
    assert len(reason) == 301
    assert reason.endswith("x.")


async def test_a_state_that_cannot_be_written_does_not_end_the_model(short_path: Path, make: Make) -> None:
    wanted = replace(plan(short_path, "pass"), status=short_path / "no such directory" / "tiny.json")
    model = make(wanted)

    await model.live()
    model.rest(0.5)


def test_a_model_process_sees_no_keys() -> None:
    environ = {"PATH": "/bin", "OPENAI_API_KEY": "k", "APP_KEY": "k", "LD_LIBRARY_PATH": "/lib", "OMP_NUM_THREADS": "2"}

    assert model_environment(environ) == {"PATH": "/bin", "LD_LIBRARY_PATH": "/lib", "OMP_NUM_THREADS": "2"}


def test_the_exit_codes_are_those_of_the_worker() -> None:
    assert (BAD_MODEL, NO_ENGINE) == (EXIT_BAD_MODEL, EXIT_NO_ENGINE)


def test_a_process_that_makes_room_is_left_the_time_for_the_longest_answer_and_its_wait() -> None:
    assert (
        TimeoutSettings().total_seconds + LocalModelSettings.model_fields["max_wait_seconds"].default < LEAVING_SECONDS
    )
