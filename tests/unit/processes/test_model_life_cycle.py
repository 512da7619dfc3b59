"""A model comes when it is asked for, goes when it is not, shares its memory, and nobody is refused by the system meanwhile.

The process is a script that answers each connection as one word on it says.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.processes.memory import MEBIBYTE, Budget
from gateway.processes.model_plan import ModelPlan
from gateway.processes.model_process import FRESH_SECONDS, ModelProcess
from gateway.processes.supervision import Backoff, Timing, keep_alive
from gateway.rundir import ModelStatus, model_trouble, read_status

Make = Callable[..., ModelProcess]
FOREVER = 3600.0

# Says its process id to each connection, after what the word on it asks for.
SCRIPT = """
import json, os, select, signal, socket, sys
option, number = sys.argv[-1].split("=")
assert option == "--listen-fd"
door = socket.socket(fileno=int(number))
say = lambda event, **more: print(json.dumps({"event": event, **more}), flush=True)
ballast = bytearray(int(sys.argv[1]) << 20)
say("ready", engine="script", context_window=16)
while True:
    if 0 in select.select([door, 0], [], [])[0]:
        said = os.read(0, 100)
        if b"alive?" in said:
            say("alive", silent_seconds=0)
        if b"leave" in said:
            say("unloaded")
        if b"leave" in said or not said:
            sys.exit()
        continue
    connection, _ = door.accept()
    connection.setblocking(True)
    word = connection.recv(10).decode()
    say("busy")
    if word == "go":
        say("leaving")
        connection.recv(1)
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "grow":
        held = bytes(120 << 20)
        held = bytearray(held)
        signal.pause()
    if word == "eat":
        from gateway.worker.confinement import limit_memory
        limit_memory(64, threads=0)
        held = [bytearray(1 << 20) for _ in range(4096)]
    connection.sendall(str(os.getpid()).encode())
    connection.close()
    if word != "hold":
        say("idle")
    if word == "unload":
        say("unloaded")
        sys.exit()
"""


def plan(directory: Path, name: str = "tiny", *, ballast: int = 0, **fields: Any) -> ModelPlan:
    file = directory / f"{name}.gguf"
    file.write_bytes(b"GGUF")
    command = (sys.executable, "-c", SCRIPT, str(ballast))
    return ModelPlan(
        f"local/{name}", command, file, "", directory / f"{name}.json", directory / f"{name}.sock", **fields
    )


def hasty(shortest: float) -> Timing:
    """A clock on which what waits for less than `shortest` seconds goes on soon, and nothing else."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0.01 if seconds < shortest else FOREVER)

    return Timing(sleep=sleep)


def restful() -> Timing:
    """A clock on which nothing that waits for time goes on."""

    async def sleep(_seconds: float) -> None:
        await asyncio.sleep(FOREVER)

    return Timing(sleep=sleep)


@asynccontextmanager
async def living(model: ModelProcess, timing: Timing | None = None) -> AsyncIterator[None]:
    keeper = asyncio.create_task(keep_alive(model.live, model.rest, Backoff(), timing or restful()))
    try:
        yield
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


async def until(wanted: ModelPlan, state: str) -> ModelStatus:
    async with asyncio.timeout(20):
        while (status := read_status(wanted.status)).state != state:
            await asyncio.sleep(0.005)
    return status


async def ask(wanted: ModelPlan, word: str = "hello") -> int | None:
    """Return the process id of the model that answers, None when the connection ends without an answer."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_unix_connection(str(wanted.socket))
        try:
            writer.write(word.encode())
            return int(await reader.read() or 0) or None
        except ConnectionError:
            return None
        finally:
            writer.close()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_a_model_for_first_use_is_idle_until_somebody_connects_and_answers_that_one(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(short_path, loads_at_start=False)
    async with living(make(wanted)):
        await until(wanted, "idle")
        assert model_trouble(wanted.status) == ""
        assert capsys.readouterr().err == ""

        pid = await ask(wanted)

        await until(wanted, "ready")
        assert pid == await ask(wanted)
    loading, ready = events(capsys.readouterr().err)
    assert (loading["event"], loading["file"], loading["mebibytes"]) == ("model_loading", str(wanted.file), 1)
    assert (ready["event"], ready["engine"], ready["context_window"]) == ("model_ready", "script", "16")


async def test_all_who_connect_while_it_is_loaded_are_answered(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, loads_at_start=False)
    async with living(make(wanted)):
        await until(wanted, "idle")

        pids = await asyncio.gather(*(ask(wanted) for _ in range(20)))

    assert len(set(pids)) == 1
    assert None not in pids


async def test_an_unloaded_model_is_idle_and_loaded_again_when_asked(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(short_path)
    async with living(make(wanted)):
        await until(wanted, "ready")
        first = await ask(wanted, "unload")
        await until(wanted, "idle")

        second = await ask(wanted)

        assert await until(wanted, "ready") == ModelStatus("ready")  # and no restart is counted
    assert first != second
    assert second is not None
    names = [event["event"] for event in events(capsys.readouterr().err)]
    assert names == ["model_loading", "model_ready", "model_unloaded", "model_loading", "model_ready"]


async def test_no_connection_is_lost_between_unloading_and_loading(short_path: Path, make: Make) -> None:
    wanted = plan(short_path)
    async with living(make(wanted)):
        await until(wanted, "ready")

        pids = [await ask(wanted, "unload") for _ in range(5)]

    assert len(set(pids)) == 5
    assert None not in pids


async def test_a_model_that_takes_no_more_does_not_say_that_it_is_ready(short_path: Path, make: Make) -> None:
    wanted = plan(short_path)
    async with living(make(wanted)):
        await until(wanted, "ready")
        _, writer = await asyncio.open_unix_connection(str(wanted.socket))
        writer.write(b"go")

        status = await until(wanted, "loading")

        assert status.reason == model_trouble(wanted.status) == ""
        writer.close()


async def test_who_connects_while_a_model_is_loaded_unasked_is_turned_away(short_path: Path, make: Make) -> None:
    wanted = replace(plan(short_path), command=(sys.executable, "-c", "import sys; sys.stdin.read()"))
    async with living(make(wanted)):
        async with asyncio.timeout(20):
            while not wanted.status.exists():
                await asyncio.sleep(0.005)

        assert await ask(wanted) is None

        assert model_trouble(wanted.status) == "it is being loaded."


async def test_a_crash_is_a_restart_and_whoever_connects_is_turned_away(short_path: Path, make: Make) -> None:
    wanted = plan(short_path)
    async with living(make(wanted)):
        await until(wanted, "ready")
        assert await ask(wanted, "crash") is None
        status = await until(wanted, "restarting")

        assert await ask(wanted) is None

    assert status.reason == "its process ended (killed by SIGSEGV)."


async def test_a_model_is_started_again_after_a_crash_without_being_asked(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, loads_at_start=False)
    async with living(make(wanted), hasty(1.0)):
        await until(wanted, "idle")
        assert await ask(wanted, "crash") is None

        async with asyncio.timeout(20):
            while read_status(wanted.status) != ModelStatus("ready", restarts=1):
                await asyncio.sleep(0.005)


async def test_a_missing_file_of_a_model_for_first_use_turns_callers_away(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, loads_at_start=False)
    async with living(make(wanted, restful())):
        await until(wanted, "idle")
        wanted.file.unlink()

        assert await ask(wanted) is None

        assert model_trouble(wanted.status) == "its file is missing."


async def test_a_process_that_eats_memory_dies_alone(short_path: Path, make: Make) -> None:
    greedy, other = plan(short_path, "greedy"), plan(short_path, "other")
    async with living(make(greedy)), living(make(other)):
        await until(greedy, "ready")
        await until(other, "ready")
        neighbour = await ask(other)

        assert await ask(greedy, "eat") is None

        assert (await until(greedy, "restarting")).reason == "its process ended (exit code 1)."
        assert await ask(other) == neighbour
        assert (await until(other, "ready")).restarts == 0


# Memory


def room_for(models: int) -> Budget:
    """Room for so many models that were not measured, or that take up to 64 MiB."""
    return Budget(models * 65 * MEBIBYTE)


async def test_an_idle_model_makes_room_for_one_that_is_asked_for(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = Budget(100 * MEBIBYTE)
    old = plan(short_path, "old", ballast=50, max_wait=FOREVER)
    new = plan(short_path, "new", ballast=50, loads_at_start=False, max_wait=FOREVER)
    async with living(make(old, restful(), budget)), living(make(new, restful(), budget)):
        await until(old, "ready")
        await until(new, "idle")
        await ask(old)

        assert await ask(new) is not None

        await until(old, "idle")
        assert model_trouble(old.status) == ""
        assert await ask(old) is not None  # which ends the new one in turn
        await until(new, "idle")
    evicted = [event for event in events(capsys.readouterr().err) if event["event"] == "model_evicted"]
    assert [(event["model"], event["reason"]) for event in evicted] == [
        ("local/old", "local/new"),
        ("local/new", "local/old"),
    ]


async def test_a_model_at_work_is_waited_for_and_callers_are_told(short_path: Path, make: Make) -> None:
    budget = Budget(100 * MEBIBYTE, turn_seconds=FOREVER)
    old, new = plan(short_path, "old", ballast=50), plan(short_path, "new", loads_at_start=False)
    async with living(make(old, restful(), budget)), living(make(new, restful(), budget)):
        await until(old, "ready")
        await until(new, "idle")
        pid = await ask(old, "hold")

        assert await ask(new) is None
        assert model_trouble(new.status) == "other models are at work and leave it no memory."
        assert (await until(old, "ready")).restarts == 0
        assert await ask(new) is None
        assert await ask(old) == pid

        await until(new, "ready")
        assert await ask(new) is not None


async def test_a_model_at_work_makes_room_for_one_that_waits_and_nobody_is_refused_meanwhile(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = Budget(100 * MEBIBYTE, turn_seconds=0.1)
    old = plan(short_path, "old", ballast=50, max_wait=FOREVER)
    new = plan(short_path, "new", loads_at_start=False, max_wait=FOREVER)
    async with living(make(old, restful(), budget)), living(make(new, restful(), budget)):
        await until(old, "ready")
        await until(new, "idle")
        first = await ask(old, "hold")  # so that it is never idle

        pids = await asyncio.gather(ask(new), *(ask(old, "hold") for _ in range(5)))

        assert None not in pids
        assert model_trouble(new.status) == model_trouble(old.status) == ""
    assert first is not None
    events_of_end = [event for event in events(capsys.readouterr().err) if event["event"] == "model_ended"]
    assert events_of_end == []


async def test_a_model_that_hangs_is_ended_and_started_again(short_path: Path, make: Make) -> None:
    wanted, timing = plan(short_path), hasty(FRESH_SECONDS + 1)
    async with living(make(wanted, timing), timing):
        await until(wanted, "ready")
        pid = await ask(wanted)
        assert pid is not None

        os.kill(pid, signal.SIGSTOP)
        assert await ask(wanted) is None  # it was waiting for the one that was ended

        async with asyncio.timeout(20):
            while read_status(wanted.status) != ModelStatus("ready", restarts=1):
                await asyncio.sleep(0.005)


async def test_a_model_that_was_loaded_for_nobody_makes_room_after_a_while(short_path: Path, make: Make) -> None:
    budget = Budget(100 * MEBIBYTE, turn_seconds=FOREVER)
    old, new = plan(short_path, "old", ballast=50), plan(short_path, "new", loads_at_start=False, max_wait=FOREVER)
    async with living(make(old, hasty(FRESH_SECONDS + 1), budget)), living(make(new, restful(), budget)):
        await until(old, "ready")
        await until(new, "idle")

        assert await ask(new) is not None


async def test_what_is_loaded_at_the_start_and_does_not_fit_is_left_for_its_first_use(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = Budget(100 * MEBIBYTE)
    first, second = plan(short_path, "first", ballast=50), plan(short_path, "second")
    async with living(make(first, restful(), budget)):
        await until(first, "ready")
        async with living(make(second, restful(), budget)):
            await until(second, "idle")

            assert (await until(first, "ready")).restarts == 0
    assert "model_deferred" in capsys.readouterr().err


async def test_a_model_that_can_never_fit_has_failed_and_says_why(short_path: Path, make: Make) -> None:
    wanted = plan(short_path)
    async with living(make(wanted, restful(), Budget(30 * MEBIBYTE))):
        status = await until(wanted, "failed")

        assert await ask(wanted) is None

    assert status.reason == "it takes about 65 MiB of memory, and 30 MiB are allowed."


async def test_a_model_that_turns_out_to_be_too_large_is_ended(short_path: Path, make: Make) -> None:
    wanted = plan(short_path, ballast=200)
    async with living(make(wanted, restful(), room_for(1))):
        status = await until(wanted, "failed")

    assert status.reason.startswith("it takes about 2")
    assert status.reason.endswith("MiB of memory, and 65 MiB are allowed.")


async def test_a_process_that_outgrows_the_memory_of_all_is_ended_and_started_again(
    short_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, timing = plan(short_path), hasty(2.0)
    async with living(make(wanted, timing, Budget(100 * MEBIBYTE)), timing):
        await until(wanted, "ready")

        assert await ask(wanted, "grow") is None
        async with asyncio.timeout(20):
            while (status := read_status(wanted.status)).restarts == 0 or status.state != "ready":
                await asyncio.sleep(0.005)

    (ended,) = (event for event in events(capsys.readouterr().err) if event["event"] == "model_ended")
    assert (ended["cause"], ended["reason"]) == ("killed by SIGKILL", "it took more memory than it may.")
