"""A catalogue entry for a package of a tiny BERT, described without numpy, which the package's reader may lack."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from gateway.packaged import Member, PackagedModel


def describe(wheel: Path) -> PackagedModel:
    """Return the entry of a package whose files in `tiny_model/` are to be converted."""
    with zipfile.ZipFile(wheel) as archive:
        raws = {name: archive.read(name) for name in archive.namelist() if name.startswith("tiny_model/")}
    members = tuple(
        Member(path=name, size=len(raw), sha256=hashlib.sha256(raw).hexdigest()) for name, raw in raws.items()
    )
    return PackagedModel(
        name="tiny",
        title="Tiny",
        licence="MIT",
        classes=("embedding",),
        context_window=16,
        package="tiny-model",
        version="1.0",
        package_licence="MIT",
        wheel_size=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        members=members,
        conversion="sentence_bert",
        file_size=1,
    )
