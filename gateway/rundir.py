"""The private directory of one running gateway: where model processes listen and what their state is.

The parent process writes here, HTTP workers read. Who starts and restarts processes lives in `processes/`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

PREFIX = "gateway-"
MARK = "gateway.run"
LONGEST_SOCKET_PATH = 100  # bytes; Linux takes 107, macOS 103

ModelState = Literal["starting", "ready", "idle", "loading", "waiting", "failed", "restarting"]

SERVING: frozenset[ModelState] = frozenset({"ready", "idle", "loading"})

_SENTENCES: dict[ModelState, str] = {
    "starting": "it is being loaded.",
    "ready": "",
    "idle": "",
    "loading": "",
    "waiting": "other models are at work and leave it no memory.",
    "failed": "it cannot be loaded.",
    "restarting": "its process ended and is being restarted.",
}


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How a model process is; `reason` is a sentence for the caller, so it names nothing of this machine.

    starting: it is loaded unasked, or again after a crash. idle: it is loaded when somebody connects. loading: somebody
    did and is answered in time, once others have made room for it or the process that leaves has gone. waiting: that took longer than callers may wait.
    `restarts` is how often it was started again since the gateway runs.
    """

    state: ModelState
    reason: str = ""
    restarts: int = 0


@contextmanager
def run_directory(base: str | None = None) -> Iterator[Path]:
    """Make the directory, readable by this user alone and with a path short enough for Unix sockets; remove it at the end.

    It stays locked meanwhile: tidiers of temporary directories leave locked ones alone, and a lock that is free tells
    the next gateway that this one was killed and left its directory behind.
    """
    path = _create(base)
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        (path / MARK).touch()  # from here on the lock means something
        _sweep(path.parent)
        yield path
    finally:
        os.close(lock)
        shutil.rmtree(path, ignore_errors=True)


def _create(base: str | None) -> Path:
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    if len(os.fsencode(model_socket(path, "", ""))) <= LONGEST_SOCKET_PATH:
        return path
    path.rmdir()
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))  # mkdtemp makes it private


def _sweep(base: Path) -> None:
    """Remove the directories of this user's gateways that were killed."""
    for path in base.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it may go away meanwhile, or be somebody else's
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid() and (path / MARK).is_file():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def model_socket(run_dir: Path, provider: str, model: str) -> Path:
    """Return where the process of this model listens; the name is a digest, so that its length is known."""
    return run_dir / f"{_stem(provider, model)}.sock"


def model_status(run_dir: Path, provider: str, model: str) -> Path:
    """Return where the state of this model is written."""
    return run_dir / f"{_stem(provider, model)}.json"


def write_status(path: Path, status: ModelStatus) -> None:
    """Replace the state at `path`; a reader sees the old one or the new one, never a half."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(status)), encoding="utf-8")
    fresh.replace(path)


def read_status(path: Path) -> ModelStatus:
    """Return the state at `path`; `starting` while none was written."""
    try:
        return ModelStatus(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ModelStatus("starting")


def model_trouble(path: Path) -> str:
    """Return a sentence that says why the model whose state is at `path` does not serve.

    It is "" for a model that answers who connects now, even if it has to be loaded first.
    """
    status = read_status(path)
    if status.state in SERVING:
        return ""
    return status.reason or _SENTENCES[status.state]


def _stem(provider: str, model: str) -> str:
    return sha256(f"{provider}\0{model}".encode()).hexdigest()[:16]
