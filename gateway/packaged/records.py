"""What is written down of each model on this machine: where its files lie, where they came from, what they hash to.

One JSON file per model, NAME.gguf.json in the models directory; that of a packaged model is its manifest
(`installed.py`). What must not live here: finding or fetching files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.packaged.errors import PackagedModelError
from gateway.packaged.keeping import write_json
from gateway.packaged.progress import Progress, Step, silent

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
SUFFIX = ".gguf.json"
PIECE_BYTES = 4 << 20


class KeptFile(BaseModel):
    """One file as it was when its digest was taken; `size` in bytes, `inode` None where an old record lacks it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: Path
    sha256: str
    size: int
    changed_ns: int
    inode: int | None = None

    def is_as_it_was(self, state: os.stat_result) -> bool:
        """Tell whether nothing suggests that the file was written or replaced since."""
        same_place = self.inode is None or self.inode == state.st_ino
        return same_place and (self.size, self.changed_ns) == (state.st_size, state.st_mtime_ns)


class Record(BaseModel):
    """One model; `source` is what it was added by, `revision` the hub's commit or "", `files` its parts in order."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    source: str
    revision: str = ""
    files: tuple[KeptFile, ...]
    is_packaged: bool = False

    @property
    def file(self) -> Path:
        """Return the file that the engine is given: the only one or the first part."""
        return self.files[0].path

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def record_file(name: str, models_dir: Path) -> Path:
    """Return where the record of the model `name` is kept; raises PackagedModelError for what is no name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise PackagedModelError(
            f"{name!r} is no name for a model: it begins with a letter or digit, has letters, digits and ._- only, "
            f"and at most 64 of them"
        )
    return models_dir / f"{name}{SUFFIX}"


def read_record(name: str, models_dir: Path) -> Record | None:
    """Return what is known of the model `name`, None if nothing is; raises PackagedModelError when it cannot be read."""
    path = record_file(name, models_dir)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _record(name, raw, models_dir)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PackagedModelError(f"{name}: {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError):  # pydantic's errors are ValueErrors
        raise PackagedModelError(f"{name}: its record {path} is damaged; remove the model and add it again") from None


def read_records(models_dir: Path) -> Iterator[Record | PackagedModelError]:
    """Yield the record of each model in `models_dir` by name, or why it cannot be read."""
    for path in sorted(models_dir.glob(f"[!.]*{SUFFIX}")):
        try:
            record = read_record(path.name.removesuffix(SUFFIX), models_dir)
        except PackagedModelError as error:
            yield error
        else:
            if record is not None:
                yield record


def find_by_source(source: str, models_dir: Path) -> Record | None:
    """Return the model that was added by `source`, None if none was."""
    found = (record for record in read_records(models_dir) if isinstance(record, Record))
    return next((record for record in found if record.source == source), None)


def write_record(record: Record, models_dir: Path) -> None:
    """Write the record of an added model down; raises OSError."""
    write_json(record_file(record.name, models_dir), record.model_dump(mode="json", exclude={"is_packaged"}))


def verify(record: Record, models_dir: Path, progress: Progress = silent, *, thoroughly: bool = False) -> None:
    """Raise PackagedModelError unless each file of the model still has the digest that was recorded.

    A file that was not written since is not read again, unless `thoroughly`.
    """
    fresh = tuple(_verify_file(record.name, file, progress, thoroughly=thoroughly) for file in record.files)
    if fresh != record.files:
        with contextlib.suppress(OSError):  # a directory that may only be read is hashed at each start
            _refresh(record, fresh, models_dir)


def why_changed(file: Path, models_dir: Path) -> str:
    """Return why the model that begins with `file` is not the one that was added; "" for one that is, or never was.

    Nothing is written, and a file that was not written since is not read.
    """
    for record in read_records(models_dir):
        if isinstance(record, Record) and record.file == file:
            try:
                for kept in record.files:
                    _verify_file(record.name, kept, silent, thoroughly=False)
            except PackagedModelError as error:
                return str(error)
    return ""


def take_print(name: str, path: Path, progress: Progress = silent) -> KeptFile:
    """Return the file at `path` with its digest; raises OSError, and PackagedModelError if it is written meanwhile."""
    with path.open("rb") as stream:
        before = os.fstat(stream.fileno())
        digest, finished = hashlib.sha256(), 0
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
            finished += len(piece)
            progress(Step(name, "checking", finished, before.st_size))
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise PackagedModelError(f"{name}: {path} was written while it was read; try again when that is done")
    return KeptFile(
        path=path,
        sha256=digest.hexdigest(),
        size=after.st_size,
        changed_ns=after.st_mtime_ns,
        inode=after.st_ino,
    )


def _verify_file(name: str, file: KeptFile, progress: Progress, *, thoroughly: bool) -> KeptFile:
    try:
        state = file.path.stat()
        if file.is_as_it_was(state) and not thoroughly:
            return file
        if state.st_size != file.size:
            raise _changed(name, file, f"it has {state.st_size} bytes instead of {file.size}")
        fresh = take_print(name, file.path, progress)
    except OSError as error:
        raise PackagedModelError(f"{name}: {file.path}: {error.strerror or error}") from error
    if fresh.sha256 != file.sha256:
        raise _changed(name, file, f"its sha256 is {fresh.sha256[:12]}… instead of {file.sha256[:12]}…")
    return fresh


def _changed(name: str, file: KeptFile, how: str) -> PackagedModelError:
    return PackagedModelError(
        f"{name}: {file.path} was changed since it was added: {how}; put it back, or add the model again"
    )


def _record(name: str, raw: Any, models_dir: Path) -> Record:
    if isinstance(raw, dict) and "package" in raw:
        file = KeptFile.model_validate({**raw, "path": models_dir / f"{name}.gguf"})
        return Record(name=name, source=str(raw["package"]), files=(file,), is_packaged=True)
    record = Record.model_validate(raw)
    if record.name != name or not record.files:
        raise ValueError
    return record


def _refresh(record: Record, files: tuple[KeptFile, ...], models_dir: Path) -> None:
    if not record.is_packaged:
        write_record(record.model_copy(update={"files": files}), models_dir)
        return
    path = record_file(record.name, models_dir)
    known = {"changed_ns": files[0].changed_ns, "inode": files[0].inode}
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **known})
