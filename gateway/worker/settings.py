"""What the worker is told on its command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from gateway.worker.engine import ENGINE_NAMES, EngineName
from gateway.worker.reports import Failure

LARGEST_NUMBER = 1 << 24
LONGEST_SOCKET_BYTES = 103  # of sockaddr_un's path: 107 on Linux, 103 on macOS


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One model to serve: `context_window` in tokens for each request, `slots` = requests that decode together.

    None means the default of the engine's plan, which needs the model's header. `max_wait` and `keep_alive` are in
    seconds. `listen_fd` is an already listening Unix socket at `socket`, which then is not made here. `memory_mb` is
    what the process may take.
    """

    model: Path
    socket: Path
    name: str
    embedding: bool = False
    threads: int | None = None
    slots: int = 4
    context_window: int | None = None
    engine: EngineName = "auto"
    max_waiting: int = 32
    max_wait: float = 120.0
    exclusive: bool = False
    too_long: Literal["refuse", "cut"] = "refuse"
    rerank: bool = False
    gpu_layers: int | None = None
    keep_alive: float | None = None
    listen_fd: int | None = None
    memory_mb: int | None = None


def parse_arguments(argv: Sequence[str]) -> WorkerSettings:
    """Return the settings in `argv`; raises Failure."""
    given = _parser().parse_args(argv)
    settings = WorkerSettings(**vars(given))
    # llama.cpp takes any other name for a host to listen on by TCP.
    if settings.socket.suffix != ".sock":
        raise Failure("--socket must end in .sock")
    if len(os.fsencode(settings.socket)) > LONGEST_SOCKET_BYTES:
        raise Failure(f"--socket must be at most {LONGEST_SOCKET_BYTES} bytes long")
    return settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m gateway.worker", description="Serve one GGUF model over a Unix socket.")
    parser.add_argument("--model", type=_absolute, required=True, metavar="FILE.gguf")
    parser.add_argument(
        "--socket", type=_absolute, required=True, metavar="FILE.sock", help="in a directory of mode 0700"
    )
    parser.add_argument("--name", required=True, help="what answers call the model")
    parser.add_argument("--embedding", action="store_true", help="serve embeddings; inputs are computed one at a time")
    parser.add_argument("--threads", type=_positive, help="default: one less than the cores")
    parser.add_argument("--slots", type=_positive, default=4, help="requests that decode together; default: 4")
    parser.add_argument(
        "--context-window", type=_positive, help="tokens for each request; default: as trained, at most 8192"
    )
    parser.add_argument("--engine", choices=ENGINE_NAMES, default="auto")
    parser.add_argument("--max-waiting", type=_count, default=32, help="requests that may wait for a slot; default: 32")
    parser.add_argument("--max-wait", type=_seconds, default=120.0, help="seconds one may wait; default: 120")
    parser.add_argument("--exclusive", action="store_true", help="one request at a time, no reuse of prompts")
    parser.add_argument(
        "--too-long", choices=("refuse", "cut"), default="refuse", help="embedding inputs over the window"
    )
    parser.add_argument("--rerank", action="store_true", help="serve /v1/rerank")
    parser.add_argument("--gpu-layers", type=_count, help="default: all that a build with a GPU can take")
    parser.add_argument("--keep-alive", type=_seconds, help="end after so many seconds without a request")
    parser.add_argument("--listen-fd", type=_count, help="a listening Unix socket to take over")
    parser.add_argument("--memory-mb", type=_positive, help="what the process may take, in MiB")
    return parser


def _absolute(text: str) -> Path:
    return Path(text).absolute()


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < LARGEST_NUMBER:
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {LARGEST_NUMBER}")
    return int(text)
