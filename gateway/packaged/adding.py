"""Adding a model that is no packaged one: from the hub, from Ollama, or a file that is there.

Files are registered where they lie and never copied or moved; a model is registered once its header and its digests were
found right, or not at all. What must not live here: how records are kept (`records.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.packaged.catalog import CATALOG
from gateway.packaged.errors import PackagedModelError
from gateway.packaged.hub import SCHEME, Fetched, fetch_from_hub, forget, parse_hub
from gateway.packaged.keeping import explain, lock
from gateway.packaged.ollama import find_in_ollama
from gateway.packaged.progress import Progress, Step, silent
from gateway.packaged.records import KeptFile, Record, read_record, record_file, take_print, verify, write_record
from gateway.worker import GgufError, check_gguf

OLLAMA = "ollama:"
RESERVED = ("small", "medium", "large", "embedding", "image", "auto")  # what callers may send besides models
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Wish:
    """What to add: `name` "" for one made of the source, `revision` of the hub's repository."""

    source: str
    name: str = ""
    revision: str = "main"


def is_source(word: str) -> bool:
    """Tell whether `word` names a file somewhere rather than a packaged model."""
    return word.startswith((SCHEME, OLLAMA)) or "/" in word or word.endswith(".gguf")


def register(
    wish: Wish, models_dir: Path, environ: Mapping[str, str], progress: Progress = silent
) -> tuple[Record, bool]:
    """Add a model and return its record and whether it was there already; raises PackagedModelError.

    A file of the hub is fetched into the hub's own cache first.
    """
    source = wish.source if wish.source.startswith((SCHEME, OLLAMA)) else _absolute(wish.source)
    name = wish.name or default_name(source)
    _check_name(name)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with lock(models_dir, name, progress):
            there = _take_name(name, source, models_dir)
            if there is not None and _is_sound(there, wish, models_dir, progress):
                return there, True
            record = _made(name, source, wish.revision, environ, progress)
            write_record(record, models_dir)
    except OSError as error:
        raise PackagedModelError(f"{name}: {explain(error, models_dir)}") from error
    progress(Step(name, "ready"))
    return record, False


def unregister(name: str, models_dir: Path) -> Record | None:
    """Forget an added model, whose files stay, and return what was known of it; raises PackagedModelError."""
    path = record_file(name, models_dir)
    if not path.exists():
        return None
    try:
        with lock(models_dir, name, silent):
            try:
                record = read_record(name, models_dir)
            except PackagedModelError:  # damaged: this is how to be rid of it
                record = Record(name=name, source="", files=())
            path.unlink(missing_ok=True)
    except OSError as error:
        raise PackagedModelError(f"{name}: {explain(error, models_dir)}") from error
    return record


def default_name(source: str) -> str:
    """Return the name of a model that was given none."""
    if source.startswith(OLLAMA):
        word = source.removeprefix(OLLAMA).removesuffix(":latest").replace("/", "-")
    else:
        word = _PART.sub("", source.rpartition("/")[2]).removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", word).lstrip("._-")[:64] or "model"


def check_file(path: Path) -> tuple[Path, ...]:
    """Return the files of the model at `path`, which is the first, having checked their headers.

    Raises PackagedModelError.
    """
    try:
        parts = check_gguf(path).parts
    except OSError as error:
        raise PackagedModelError(f"{path}: {error.strerror or error}") from error
    except GgufError as error:
        raise PackagedModelError(f"{path}: {str(error).removeprefix(f'{path.name}: ')}") from error
    names = [_PART.sub(f"-{number:05d}-of-{parts:05d}.gguf", path.name) for number in range(1, parts + 1)]
    return tuple(path.with_name(name) for name in names) if parts > 1 else (path,)


def _absolute(path: str) -> str:
    if "\0" in path:
        raise PackagedModelError(f"{path!r}: a path has no NUL")
    try:
        return os.path.abspath(Path(path).expanduser())  # noqa: PTH100  # a link keeps its name: parts are found by it
    except RuntimeError:
        raise PackagedModelError(f"{path}: there is no such home directory") from None


def _check_name(name: str) -> None:
    record_file(name, Path())
    if name in CATALOG:
        raise PackagedModelError(f"{name}: the name is taken by a packaged model; choose another with --name")
    if name in RESERVED:
        raise PackagedModelError(f"{name}: a model cannot have the name of a class; choose another with --name")


def _take_name(name: str, source: str, models_dir: Path) -> Record | None:
    """Return the record of this very model, if there is one; raises PackagedModelError if another one has its name."""
    there = read_record(name, models_dir)
    if there is not None and there.source != source:
        raise PackagedModelError(f"{name}: the name is taken by {there.source}; choose another with --name")
    if (
        there is None
        and (models_dir / f"{name}.gguf").exists()
        and source != str(models_dir.absolute() / f"{name}.gguf")
    ):
        raise PackagedModelError(f"{name}: the name is taken by the file {models_dir / f'{name}.gguf'}")
    return there


def _is_sound(there: Record, wish: Wish, models_dir: Path, progress: Progress) -> bool:
    if wish.source.startswith(SCHEME) and wish.revision not in ("main", there.revision):
        return False
    try:
        verify(there, models_dir, progress)
    except PackagedModelError:  # it is added anew
        return False
    return True


def _made(name: str, source: str, revision: str, environ: Mapping[str, str], progress: Progress) -> Record:
    if source.startswith(SCHEME):
        return _from_hub(name, source, revision, environ, progress)
    expected = ""
    path = Path(source)
    if source.startswith(OLLAMA):
        path, expected = find_in_ollama(source.removeprefix(OLLAMA), environ)
    files = _prints(name, check_file(path), progress)
    if expected and files[0].sha256 != expected:
        raise PackagedModelError(f"{source}: {path} is damaged: its sha256 is not the one that Ollama has for it")
    return Record(name=name, source=source, files=files)


def _from_hub(name: str, source: str, revision: str, environ: Mapping[str, str], progress: Progress) -> Record:
    fetched = fetch_from_hub(parse_hub(source), revision, environ)
    files = _prints(name, fetched.files, progress)
    _compare(source, fetched, files)
    found = check_file(fetched.files[0])
    if len(found) != len(fetched.files):
        raise PackagedModelError(f"{source}: a model in {len(found)} parts; add its first part, …-00001-of-….gguf")
    return Record(name=name, source=source, revision=fetched.revision, files=files)


def _compare(source: str, fetched: Fetched, files: tuple[KeptFile, ...]) -> None:
    for file, expected in zip(files, fetched.sha256, strict=True):
        if expected and file.sha256 != expected:
            forget(file.path)
            raise PackagedModelError(
                f"{source}: what was fetched is not what the hub has: its sha256 differs; try again"
            )


def _prints(name: str, paths: tuple[Path, ...], progress: Progress) -> tuple[KeptFile, ...]:
    return tuple(take_print(name, path, progress) for path in paths)
