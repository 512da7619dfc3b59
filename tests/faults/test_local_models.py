"""Row F56 as callers see it: a model process that died, hangs, or cannot load its file.

That it is started again is shown in `tests/unit/processes`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.rundir import ModelStatus, model_socket, model_status, write_status
from tests.support.app import make_config, running
from tests.support.deployments import FakeClock
from tests.support.drill import HASTE, SOUND_TEXT, Drill, Kind
from tests.support.upstream import Behaviour, Chat, Cut, Embeddings, Ending, Hang, Raw, Reset, ScriptedUpstream
from tests.support.verdicts import ask_aside, is_answered_by_the_sound_one

Note = Callable[[str, str], None]
DEATHS: dict[str, tuple[Behaviour, int, str]] = {
    "killed at once": (Reset(), 503, "local_model_unavailable"),
    "aborts": (Raw((Ending.CLOSE,)), 503, "local_model_unavailable"),
    "killed within the headers": (Raw((b"HTTP/1.1 200 OK\r\nConte", Ending.RESET)), 503, "local_model_unavailable"),
    "hangs": (Hang(), 504, "upstream_timeout"),
}
NAMES = [pytest.param(name, marks=pytest.mark.fault("F56", f"a model process: {name}")) for name in DEATHS]


@asynccontextmanager
async def local_drill(
    kind: Kind, note: Note, scratch: Path, *, sound: bool, behaviour: Behaviour | None
) -> AsyncIterator[Drill]:
    """Serve `small` by a local model whose process does `behaviour` (None: it is not there), and perhaps by another."""
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(ScriptedUpstream())
        other.otherwise = Embeddings() if kind == "embeddings" else Chat(SOUND_TEXT)
        config = json.loads(make_config("http://unused/v1", *([other] if sound else []), timeouts=HASTE))
        model = {"path": "model.gguf", "embedding": kind == "embeddings"}
        config["providers"]["up0"] = {"kind": "llamacpp", "models": {"model": model}}
        clock = FakeClock()
        gateway = await stack.enter_async_context(running(json.dumps(config), clock=clock))
        run_dir = next(scratch.iterdir())
        child = ScriptedUpstream(socket_path=model_socket(run_dir, "up0", "model"))
        if behaviour is not None:
            write_status(model_status(run_dir, "up0", "model"), ModelStatus("ready"))
            child.otherwise = behaviour
            await stack.enter_async_context(child)
        yield Drill(kind, gateway, child, other if sound else None, clock, note)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the gateway of the test will have its one directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
async def test_f56_alone_a_dead_model_process_is_told(kind: Kind, note: Note, scratch: Path, name: str) -> None:
    behaviour, status, code = DEATHS[name]
    async with local_drill(kind, note, scratch, sound=False, behaviour=behaviour) as it:
        seen = await it.ask()

    assert (seen.status, seen.code, seen.attempts) == (status, code, 1)
    assert seen.error is not None
    assert seen.error["type"] == ("service_unavailable_error" if status == 503 else "server_error")
    assert seen.answer.headers.get("Retry-After") == ("1" if status == 503 else None)


@pytest.mark.parametrize("name", NAMES)
async def test_f56_another_deployment_answers(kind: Kind, note: Note, scratch: Path, name: str) -> None:
    async with local_drill(kind, note, scratch, sound=True, behaviour=DEATHS[name][0]) as it:
        seen = await it.ask()

        assert is_answered_by_the_sound_one(it, seen)


@pytest.mark.fault("F56", "a model process is not there: it restarts, or its file is bad")
async def test_f56_why_a_model_is_not_there_is_told(kind: Kind, note: Note, scratch: Path) -> None:
    async with local_drill(kind, note, scratch, sound=False, behaviour=None) as it:
        first = await it.ask()
        status = ModelStatus("failed", "its file is no GGUF.")
        write_status(model_status(next(scratch.iterdir()), "up0", "model"), status)

        second = await it.ask()

    assert {(seen.status, seen.code, seen.attempts) for seen in (first, second)} == {
        (503, "local_model_unavailable", 1)
    }
    assert second.error is not None
    assert second.error["message"].endswith("its file is no GGUF.")


@pytest.mark.fault("F56", "a model process is not there: it restarts, or its file is bad")
async def test_f56_another_answers_for_a_model_that_is_not_there(kind: Kind, note: Note, scratch: Path) -> None:
    async with local_drill(kind, note, scratch, sound=True, behaviour=None) as it:
        seen = await it.ask()

    assert (seen.status, seen.by, seen.attempts) == (200, "sound", 2)


@pytest.mark.parametrize("kind", ["stream"], indirect=True)
@pytest.mark.fault("F56", "a model process dies within a stream")
async def test_f56_a_stream_that_a_dying_process_leaves_is_ended_honestly(
    kind: Kind, note: Note, scratch: Path
) -> None:
    dying = Cut(Chat(("some ", "words"), stream=True), 2)  # its role and one piece of text
    async with local_drill(kind, note, scratch, sound=True, behaviour=dying) as it:
        seen = await it.ask()

        assert it.sound is not None
        assert it.sound.requests == []
    assert (seen.status, seen.code, seen.text) == (200, "upstream_stream_interrupted", "some ")


@pytest.mark.fault("F56", "a model process is back")
async def test_f56_a_model_that_is_back_is_asked_at_once(kind: Kind, note: Note, scratch: Path) -> None:
    sound = Embeddings() if kind == "embeddings" else Chat()
    async with local_drill(kind, note, scratch, sound=False, behaviour=Reset()) as it:
        first = await ask_aside(it)
        it.broken.otherwise = sound
        it.clock.advance(1.0)

        second = await it.ask()

    assert (first.status, second.status) == (503, 200)
