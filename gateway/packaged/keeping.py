"""How files of the models directory are kept whole: one writer at a time, written aside and then moved into place.

What must not live here: what the files say.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.packaged.progress import Progress, Step


@contextlib.contextmanager
def lock(models_dir: Path, name: str, progress: Progress) -> Iterator[None]:
    """Hold the model's lock; the kernel drops it when a process dies, so the file may stay."""
    with (models_dir / f".{name}.lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(Step(name, "waiting"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Put `value` at `path`, whole or not at all; raises OSError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        sync(fresh)
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Make sure that what was written to `path` is on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: OSError, place: Path) -> str:
    """Return in one clause what went wrong with a file at or below `place`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {place} is full"
    if error.errno == errno.EFBIG:
        return f"{error.filename or place}: the system allows no file of this size (ulimit -f)"
    return f"{error.filename or place}: {error.strerror or error}"
