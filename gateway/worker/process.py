"""The worker's process: reads its command line, loads the model, tells its parent, serves until it is told to end.

What must not live here: anything about an engine (`xllamacpp_engine.py`), the wire or the queue (`front.py`).
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gateway.worker.confinement import claim_socket, confine, limit_memory
from gateway.worker.cut_inputs import CutInputs
from gateway.worker.engine import LoadedModel, Plan, choose
from gateway.worker.fair_queue import FIRST_READING_SECONDS, FIRST_SECONDS, FairQueue
from gateway.worker.gguf_header import GgufError, GgufSummary, check_gguf
from gateway.worker.own_tokens import OwnTokens
from gateway.worker.plan import engine_socket, make_plan, usable_cores
from gateway.worker.pulse import Pulse, Pulsing, Vitals, pulse_of_server
from gateway.worker.ranking import Ranker, check_ranking_head
from gateway.worker.reports import EXIT_BAD_MODEL, Failure, Reports
from gateway.worker.settings import WorkerSettings, parse_arguments
from gateway.worker.xllamacpp_engine import CHAT_BATCH_TOKENS

if TYPE_CHECKING:
    from gateway.worker.front import Front

OTHER_THREADS = 10  # of the front, and of llama.cpp's own server
SPINS = 1000  # at a barrier before a thread sleeps; why so many is in design.md
LOOK_SECONDS = 1.0  # how often the parent is looked for where the kernel does not tell


def main() -> NoReturn:
    """Run the worker; ends the process."""
    reports = Reports()
    try:
        _run(reports)
    except Failure as failure:
        reports.send("failed", reason=str(failure), matter=failure.matter)
        _end(failure.exit_code)


def _spin_less() -> None:
    """Keep OpenMP's threads from spinning for long at every barrier; to be called before anything loads libgomp.

    Even looking for an engine does. What an operator says about it holds.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def _run(reports: Reports) -> NoReturn:
    confine()
    parent = os.getppid()
    settings = parse_arguments(sys.argv[1:])
    listener = _take_place(settings)
    summary = _check(settings.model)
    if settings.rerank:
        check_ranking_head(settings.model)
    _spin_less()
    engine = choose(settings.engine)
    plan = make_plan(settings, summary, usable_cores(), engine.name)
    if settings.memory_mb is not None:
        limit_memory(settings.memory_mb, threads=plan.slots + plan.threads + OTHER_THREADS)
    began = time.monotonic()
    # Until the model is loaded no Python code runs on a signal, so SIGTERM keeps its default meaning that long.
    model = engine.start(plan)
    leave = partial(_leave, _left_behind(settings))
    _end_on_signals(leave)

    def ready() -> None:
        seconds = round(time.monotonic() - began, 3)
        reports.send("ready", engine=engine.name, load_seconds=seconds, **_describe(plan, summary))
        reports.never_wait()

    async def serve() -> None:
        front = _make_front(_surround(model, settings, plan), settings, plan, reports)
        mind = Mind(front, Vitals(_pulse(model, settings), time.monotonic), reports, asyncio.get_running_loop())
        threading.Thread(target=_watch, args=(parent, mind.hear, leave), daemon=True).start()
        await front.serve(listener, ready)

    asyncio.run(serve())
    reports.send("unloaded")
    leave()


class Mind:
    """What the parent says comes here: `alive?` is answered, after `leave` the front ends in order."""

    def __init__(self, front: Front, vitals: Vitals, reports: Reports, loop: asyncio.AbstractEventLoop) -> None:
        self._words = {
            b"alive?": lambda: reports.send(
                "alive", silent_seconds=round(vitals.silent_seconds(), 3), seconds_a_token=front.seconds_a_token
            ),
            b"leave": front.leave,
        }
        self._loop = loop

    def hear(self, said: bytes) -> None:
        """Take lines from the parent; any thread may call."""
        for word in said.split():
            if word in self._words:
                with suppress(RuntimeError):  # the loop is closed, and this process about to end
                    self._loop.call_soon_threadsafe(self._words[word])


def _surround(model: LoadedModel, settings: WorkerSettings, plan: Plan) -> LoadedModel:
    """Return the model with what the settings put around it."""
    if plan.rerank:
        return Ranker(model)
    cutting = CutInputs(model, plan.context_window) if settings.too_long == "cut" else model
    return OwnTokens(cutting, plan.context_window)


def _make_front(model: LoadedModel, settings: WorkerSettings, plan: Plan, reports: Reports) -> Front:
    from gateway.worker.front import Front, Manners

    first_seconds = FIRST_READING_SECONDS if plan.embedding or plan.rerank else FIRST_SECONDS
    queue = FairQueue(plan.slots, settings.max_waiting, first_seconds)
    manners = Manners(settings.max_wait, settings.keep_alive, settings.exclusive)
    return Front(model, queue, manners, reports.send, work_file(settings.socket))


def _pulse(model: LoadedModel, settings: WorkerSettings) -> Pulse:
    return model.pulse if isinstance(model, Pulsing) else partial(pulse_of_server, engine_socket(settings.socket))


def work_file(path: Path) -> Path:
    """Return where the front of the socket at `path` writes down what it works on."""
    return path.with_suffix(".work")


def _take_place(settings: WorkerSettings) -> socket.socket:
    """Return the front's socket: the one given, or one that nobody can connect to before the front listens."""
    if settings.listen_fd is not None:
        try:
            return socket.socket(fileno=settings.listen_fd)
        except OSError as error:
            raise Failure(f"--listen-fd: {error.strerror}") from error
    claim_socket(settings.socket)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(settings.socket))
    except OSError as error:
        raise Failure(f"the socket: {error.strerror}") from error
    return listener


def _left_behind(settings: WorkerSettings) -> tuple[Path, ...]:
    """Return the files that are gone when the process ends in order; a socket that was given is the parent's."""
    own = (engine_socket(settings.socket), work_file(settings.socket))
    return own if settings.listen_fd is not None else (*own, settings.socket)


def _check(model: Path) -> GgufSummary:
    try:
        return check_gguf(model)
    except GgufError as error:
        raise Failure(str(error), EXIT_BAD_MODEL, matter=error.matter) from error


def _describe(plan: Plan, summary: GgufSummary) -> dict[str, str | int | bool | None]:
    return {
        "model": plan.name,
        "architecture": summary.architecture,
        "context_window": plan.context_window,
        "slots": plan.slots,
        "threads": plan.threads,
        "embedding": plan.embedding,
        "step_tokens": plan.context_window if plan.embedding or plan.rerank else CHAT_BATCH_TOKENS,
        "dimensions": summary.embedding_length if plan.embedding else None,
    }


def _end_on_signals(leave: Callable[[], NoReturn]) -> None:
    def end(_number: int, _frame: object) -> None:
        leave()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _leave(sockets: Sequence[Path]) -> NoReturn:
    for path in sockets:
        path.unlink(missing_ok=True)
    _end(0)


def _end(code: int) -> NoReturn:
    """End at once: unwinding would wait for the batch that is being computed, seconds with a large model."""
    sys.stderr.flush()
    os._exit(code)


def _watch(parent: int, hear: Callable[[bytes], None], leave: Callable[[], NoReturn]) -> None:
    """Leave when the parent is gone: its process, or the other end of the pipe that it gave us as standard input."""
    watched = [0] if _is_pipe(0) else []
    while os.getppid() == parent:
        readable, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if readable:
            said = os.read(0, 4096)
            if not said:
                break
            hear(said)
    leave()


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
