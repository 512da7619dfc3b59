"""Processes under measurement: started on a free port, on their cores, awaited, and ended by their own pid."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.accounting import pinned
from bench.load import LOOPBACK

START_DEADLINE_SECONDS = 60.0
STOP_DEADLINE_SECONDS = 15.0
POLL_SECONDS = 0.003


class BenchError(Exception):
    """What keeps the harness from a figure: something did not start, or answered wrongly."""


@dataclass(frozen=True, slots=True)
class Program:
    """How to start something: its name in the table, its command, the port it will have and the path that says 200."""

    name: str
    argv: Sequence[str]
    port: int
    ready_path: str = "/healthz"
    workers: int = 1


@dataclass(slots=True)
class System:
    """A running program; `start_seconds` is from its spawn to its first 200, `served` counts what it was sent."""

    program: Program
    pid: int
    start_seconds: float
    served: int = 0

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def port(self) -> int:
        return self.program.port


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return int(taken.getsockname()[1])


@contextmanager
def running(program: Program, directory: Path, cores: Sequence[int] = ()) -> Iterator[System]:
    """Start `program` on `cores`, yield it when it answers, end it with SIGTERM.

    Its output goes to files in `directory`, as a service's would. Raises BenchError with the end of it when it does not
    answer in time.
    """
    output = directory / f"{program.name.replace(' ', '-')}-{program.port}.log"
    with output.open("wb") as log:
        began = time.perf_counter()
        with pinned(cores):
            process = subprocess.Popen(
                program.argv,
                cwd=Path(__file__).parent.parent,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
    try:
        _wait_until_ready(process, program, output)
        yield System(program, process.pid, time.perf_counter() - began)
    finally:
        _end(process)


def _environment() -> Mapping[str, str]:
    """Return this environment without API keys: a preset that finds one would switch a provider on."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}


def _wait_until_ready(process: subprocess.Popen[bytes], program: Program, output: Path) -> None:
    until = time.perf_counter() + START_DEADLINE_SECONDS
    while not _says_ok(program.port, program.ready_path):
        if process.poll() is not None or time.perf_counter() > until:
            state = "still runs" if process.returncode is None else f"ended with code {process.returncode}"
            words = " ".join(program.argv)
            raise BenchError(f"{program.name} does not answer and {state}: {words}\n{output.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)


def _says_ok(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
