"""What is known of a local model before its process runs: its command, its file and what it may see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Print = tuple[int, int, int]  # inode of the first file, bytes of all, nanoseconds of the last change

_PART = re.compile(r"(?P<name>.*)-00001-of-(?P<parts>\d{5})\.gguf", re.DOTALL)

# llama.cpp parses files from strangers, so its process sees the machine's settings but none of the API keys.
_SAFE_NAMES = frozenset({"HOME", "LANG", "PATH", "SYSTEMROOT", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"})
_SAFE_PREFIXES = ("CUDA_", "DYLD_", "GGML_", "GOMP_", "HIP_", "LC_", "LD_", "LLAMA_", "OMP_", "PYTHON", "ROCR_")


def model_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a model process may see of the environment."""
    return {name: value for name, value in environ.items() if name in _SAFE_NAMES or name.startswith(_SAFE_PREFIXES)}


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model to run: the command of its process, the file it needs, how to get that file, where its state goes.

    The command is completed by the option that names the descriptor of `socket`. `loads_at_start` is False for a model
    that is loaded when first asked. `provider` is whose memory it shares. `max_wait` is how long callers may wait for it,
    in seconds.
    """

    name: str
    command: tuple[str, ...]
    file: Path
    remedy: str
    status: Path
    socket: Path
    loads_at_start: bool = True
    provider: str = ""
    max_wait: float = 0.0


def parts_of(file: Path) -> tuple[Path, ...]:
    """Return the files of the model that begins with `file`: itself, and what llama.cpp reads with it by its name."""
    found = _PART.fullmatch(file.name)
    if found is None:
        return (file,)
    name, parts = found["name"], int(found["parts"])
    others = (file.with_name(f"{name}-{part:05}-of-{parts:05}.gguf") for part in range(2, parts + 1))
    return (file, *(other for other in others if other.is_file()))


def print_of(file: Path) -> Print | None:
    """Return what changes when a file of the model is written or replaced, None while there is none."""
    try:
        known = [part.stat() for part in parts_of(file)]
    except OSError:
        return None
    return known[0].st_ino, sum(part.st_size for part in known), max(part.st_mtime_ns for part in known)
