"""Models that other programs left on this machine and that could be added: of Ollama, llama.cpp and the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.packaged.ollama import list_ollama

SUFFIX = ".gguf"


@dataclass(frozen=True, slots=True)
class Candidate:
    """`source` is what `gateway models add` takes; `size` in bytes."""

    source: str
    path: Path
    size: int


def candidates(environ: Mapping[str, str]) -> Iterator[Candidate]:
    """Yield what could be added, each file once; what cannot be read is passed over."""
    seen: set[tuple[int, int]] = set()
    for source, path in _all(environ):
        try:
            state = path.stat()
        except OSError:  # gone, or a link in a circle
            continue
        if (state.st_dev, state.st_ino) not in seen:
            seen.add((state.st_dev, state.st_ino))
            yield Candidate(source, path, state.st_size)


def llama_cpp_cache(environ: Mapping[str, str]) -> Path:
    """Return where llama.cpp keeps what it downloaded."""
    caches = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".cache"
    return Path(environ.get("LLAMA_CACHE") or Path(caches) / "llama.cpp")


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Return where huggingface_hub keeps what it downloaded."""
    caches = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".cache"
    home = environ.get("HF_HOME") or Path(caches) / "huggingface"
    return Path(environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub").expanduser()


def _all(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    yield from list_ollama(environ)
    for cache in (llama_cpp_cache(environ), hub_cache(environ)):
        for path in _below(cache.absolute()):
            yield str(path), path


def _below(directory: Path) -> Iterator[Path]:
    """Yield the models below `directory`, of those in parts the first one; linked directories are not entered."""
    for place, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            is_later_part = "-of-" in name and "-00001-of-" not in name
            if name.endswith(SUFFIX) and not is_later_part and not name.startswith("mmproj"):
                yield Path(place) / name
