"""The private directory of one running gateway: where model processes listen and what their state is.

The parent process writes here, HTTP workers read. Who starts and restarts processes lives in `processes.py`.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

LONGEST_SOCKET_PATH = 100  # bytes; Linux takes 107, macOS 103

ModelState = Literal["starting", "ready", "failed", "restarting"]

_SENTENCES: dict[ModelState, str] = {
    "starting": "it is being loaded.",
    "ready": "",
    "failed": "it cannot be loaded.",
    "restarting": "its process ended and is being restarted.",
}


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How a model process is; `reason` is a sentence for the caller, `restarts` counts since the gateway started."""

    state: ModelState
    reason: str = ""
    restarts: int = 0


def create(base: str | None = None) -> Path:
    """Make the directory, readable by this user alone, with a path short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="gateway-", dir=base))
    if len(os.fsencode(model_socket(path, "", ""))) <= LONGEST_SOCKET_PATH:
        return path
    path.rmdir()
    return Path(tempfile.mkdtemp(prefix="gateway-", dir="/tmp"))  # mkdtemp makes it private


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
    """Return a sentence that says why the model whose state is at `path` does not serve, "" while it does."""
    status = read_status(path)
    if status.state == "ready":
        return ""
    return status.reason or _SENTENCES[status.state]


def _stem(provider: str, model: str) -> str:
    return sha256(f"{provider}\0{model}".encode()).hexdigest()[:16]
