"""The worker's process: reads its command line, loads the model, tells its parent, serves until it is told to end.

What must not live here: anything about an engine (`xllamacpp_engine.py`) or the wire, which the engine speaks itself.
"""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import NoReturn

from gateway.worker.confinement import claim_socket, confine
from gateway.worker.engine import Plan, choose
from gateway.worker.gguf_header import GgufError, GgufSummary, check_gguf
from gateway.worker.plan import make_plan, usable_cores
from gateway.worker.reports import EXIT_BAD_MODEL, Failure, Reports
from gateway.worker.settings import parse_arguments

LOOK_SECONDS = 1.0  # how often the parent is looked for where the kernel does not tell
HEALTH_SECONDS = 0.02
HEALTH_TRIES = 1500  # half a minute, for a server that already listens


def main() -> NoReturn:
    """Run the worker; ends the process."""
    reports = Reports()
    try:
        _run(reports)
    except Failure as failure:
        reports.send("failed", reason=str(failure), matter=failure.matter)
        _end(failure.exit_code)


def _run(reports: Reports) -> NoReturn:
    confine()
    parent = os.getppid()
    settings = parse_arguments(sys.argv[1:])
    claim_socket(settings.socket)
    summary = _check(settings.model)
    engine = choose(settings.engine)
    plan = make_plan(settings, summary, usable_cores())
    for name, value in engine.environment.items():
        os.environ.setdefault(name, value)
    began = time.monotonic()
    # Until the model is loaded no Python code runs on a signal, so SIGTERM keeps its default meaning that long.
    running = engine.start(plan)  # noqa: F841  # the model is served for as long as this exists
    _end_on_signals(plan.socket)
    _await_health(plan.socket)
    reports.send(
        "ready", engine=engine.name, load_seconds=round(time.monotonic() - began, 3), **_describe(plan, summary)
    )
    _watch(parent)
    _leave(plan.socket)


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
        "dimensions": summary.embedding_length if plan.embedding else None,
    }


def _end_on_signals(path: Path) -> None:
    def end(_number: int, _frame: object) -> None:
        _leave(path)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _leave(path: Path) -> NoReturn:
    path.unlink(missing_ok=True)
    _end(0)


def _end(code: int) -> NoReturn:
    """End at once: unwinding would wait for the batch that is being computed, seconds with a large model."""
    sys.stderr.flush()
    os._exit(code)


def _await_health(path: Path) -> None:
    for _ in range(HEALTH_TRIES):
        connection = _UnixConnection(path)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(HEALTH_SECONDS)
    raise Failure("the model was loaded, but its server does not answer")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _watch(parent: int) -> None:
    """Wait until the parent is gone: its process, or the other end of the pipe that it gave us as standard input."""
    watched = [0] if _is_pipe(0) else []
    while os.getppid() == parent:
        readable, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if readable and not os.read(0, 4096):
            return


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
