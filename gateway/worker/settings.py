"""What the worker is told on its command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gateway.worker.engine import ENGINE_NAMES, EngineName
from gateway.worker.reports import Failure

LARGEST_NUMBER = 1 << 24
LONGEST_SOCKET_BYTES = 103  # of sockaddr_un's path: 107 on Linux, 103 on macOS


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One model to serve: `context_window` in tokens for each request, `slots` = requests that decode together.

    None means the default of the engine's plan, which needs the model's header.
    """

    model: Path
    socket: Path
    name: str
    embedding: bool = False
    threads: int | None = None
    slots: int = 4
    context_window: int | None = None
    engine: EngineName = "auto"


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
    return parser


def _absolute(text: str) -> Path:
    return Path(text).absolute()


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {LARGEST_NUMBER}")
    return int(text)
