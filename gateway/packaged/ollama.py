"""Models that Ollama keeps on this machine: `ollama:NAME[:TAG]` to the file that has the weights.

Only files are read; Ollama itself need not run. What must not live here: other stores (`on_disk.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.packaged.errors import PackagedModelError

MODEL_LAYER = "application/vnd.ollama.image.model"
ADAPTER_LAYER = "application/vnd.ollama.image.adapter"
LARGEST_MANIFEST_BYTES = 1 << 20
REGISTRY = "registry.ollama.ai"

_REFERENCE = re.compile(r"(?:([A-Za-z0-9][\w.-]*)/)?([A-Za-z0-9][\w.-]*)(?::([A-Za-z0-9][\w.-]*))?", re.ASCII)
_NO_MANIFEST = (ValueError, LookupError, TypeError, RecursionError)  # of a file that may say anything
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def ollama_dir(environ: Mapping[str, str]) -> Path:
    """Return where Ollama keeps its models."""
    return Path(environ.get("OLLAMA_MODELS") or Path(environ.get("HOME") or "~").expanduser() / ".ollama" / "models")


def find_in_ollama(reference: str, environ: Mapping[str, str]) -> tuple[Path, str]:
    """Return the file of `reference`, NAME[:TAG] or USER/NAME[:TAG], and its sha256; raises PackagedModelError."""
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise PackagedModelError(f"ollama:{reference}: expected ollama:NAME or ollama:NAME:TAG")
    store = ollama_dir(environ)
    manifest = store / "manifests" / REGISTRY / (parts[1] or "library") / parts[2] / (parts[3] or "latest")
    try:
        return _weights(manifest, store)
    except FileNotFoundError:
        raise PackagedModelError(
            f"ollama:{reference}: Ollama has no such model in {store} (ollama pull {reference})"
        ) from None
    except OSError as error:
        raise PackagedModelError(f"ollama:{reference}: {error.filename}: {error.strerror or error}") from error
    except _NO_MANIFEST as error:
        raise PackagedModelError(f"ollama:{reference}: {error}") from error


def list_ollama(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield reference and file of each model there whose weights are present."""
    store = ollama_dir(environ)
    for manifest in sorted((store / "manifests" / REGISTRY).glob("*/*/*")):
        try:
            file, _ = _weights(manifest, store)
        except (OSError, *_NO_MANIFEST):  # of another kind, or half fetched
            continue
        user, name, tag = manifest.parts[-3:]
        if file.is_file():
            yield f"ollama:{'' if user == 'library' else f'{user}/'}{name}:{tag}", file


def _weights(manifest: Path, store: Path) -> tuple[Path, str]:
    with manifest.open("rb") as stream:
        layers: Any = json.loads(stream.read(LARGEST_MANIFEST_BYTES))["layers"]
    kinds = [layer["mediaType"] for layer in layers]
    if ADAPTER_LAYER in kinds:
        raise ValueError("it has an adapter, which would not be applied")
    if kinds.count(MODEL_LAYER) != 1:
        raise ValueError(f"its manifest {manifest} names {kinds.count(MODEL_LAYER)} files of weights instead of one")
    digest = layers[kinds.index(MODEL_LAYER)]["digest"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):  # it becomes the name of a file
        raise ValueError(f"its manifest {manifest} has a digest that is none")
    return store / "blobs" / digest.replace(":", "-"), digest.removeprefix("sha256:")
