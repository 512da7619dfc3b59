"""What is known of a local model before its process runs: its command, its file and what it may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Print = tuple[int, int, int]  # inode, size in bytes, nanoseconds of the last change

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


def print_of(file: Path) -> Print | None:
    """Return what changes when a file is written or replaced, None while there is none."""
    try:
        known = file.stat()
    except OSError:
        return None
    return known.st_ino, known.st_size, known.st_mtime_ns
