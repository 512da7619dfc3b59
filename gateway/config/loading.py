"""The steps from the bytes of a configuration file to a Config."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.accepted import warn
from gateway.config.checking import blame_all, blame_swallowed
from gateway.config.document import Config, Document
from gateway.config.filling import NEEDS_LITELLM, fill
from gateway.config.reading import MOST_BYTES, read
from gateway.config.resolving import note_dropped
from gateway.config.rules import check_rules
from gateway.config.tree import Tree
from gateway.config.variables import fill_in_tree
from gateway.mistakes import ConfigError, Mistake
from gateway.packaged import HUB_SCHEME
from gateway.providers import LlamaCppSettings


def load(
    path: Path,
    *,
    text: bytes | None = None,
    environ: Mapping[str, str],
    host: str | None = None,
    port: int | None = None,
) -> Config:
    """Return the configuration of the file at `path`, or of `text` as if it stood there.

    `host` and `port` come from the command line and win. Raises ConfigError with every mistake.
    """
    text = read_file(path) if text is None else text
    return parse(text, str(path), environ=environ, host=host, port=port)


def read_file(path: Path) -> bytes:
    """Return what the configuration file at `path` holds, but at most one byte more than `parse` takes.

    Raises ConfigError.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read(MOST_BYTES + 1)
            reason = "is not a regular file"
    except FileNotFoundError:
        reason = "there is no such file"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise ConfigError([Mistake(str(path), 0, "", reason)])


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would wait for its writer


def parse(
    text: str | bytes, file: str, *, environ: Mapping[str, str], host: str | None = None, port: int | None = None
) -> Config:
    """Return the configuration that is written in `text`; `file` is named in messages and relative paths start there."""
    tree = read(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text, file)
    fill_in_tree(tree, environ)
    _override(tree, {"host": host, "port": port})
    off = fill(tree, environ)
    try:
        document = Document.model_validate(tree.root)
    except ValidationError as error:
        blame_all(tree, error)
        check_rules(tree)
        tree.raise_mistakes()
        raise
    blame_swallowed(tree, document)
    check_rules(tree)
    tree.raise_mistakes()
    return _finish(document, tree, off)


def _override(tree: Tree, given: Mapping[str, object]) -> None:
    server = tree.root.get("server") or {}
    for name, value in given.items():
        if value is not None and isinstance(server, dict):
            tree.root["server"] = server = {**server, name: value}
            tree.lines[("server", name)] = 0


def _finish(document: Document, tree: Tree, off: Mapping[str, str]) -> Config:
    base = Path(tree.file).absolute().parent
    fields: dict[str, Any] = {name: getattr(document, name) for name in document.model_fields_set}
    fields["server"] = document.server.model_copy(update={"data_dir": _below(base, document.server.data_dir)})
    fields["providers"] = {
        name: _anchor(entry, base) if isinstance(entry, LlamaCppSettings) else entry
        for name, entry in document.providers.items()
    }
    config = Config(
        **fields,
        file=tree.file,
        off=dict(off),
        notes=_note_off(off),
        warnings=tuple(warn(document, tree)),
        refused=tuple(
            f"{tree.file}:{tree.line(('providers', name))}: providers.{name}: {reason}"
            for name, reason in off.items()
            if reason.startswith(NEEDS_LITELLM)
        ),
    )
    return config.model_copy(update={"notes": (*config.notes, *note_dropped(config))})


def _below(base: Path, path: Path) -> Path:
    try:
        return Path(os.path.normpath(base / path.expanduser()))
    except RuntimeError:  # ~ where no home is known
        return base / path


def _note_off(off: Mapping[str, str]) -> tuple[str, ...]:
    if not off:
        return ()
    return ("providers that are off: " + ", ".join(f"{name} ({reason})" for name, reason in off.items()),)


def _anchor(settings: LlamaCppSettings, base: Path) -> LlamaCppSettings:
    models = {
        name: model.model_copy(update={"path": str(_below(base, Path(model.path)))})
        if model.path and not model.path.startswith(HUB_SCHEME)
        else model
        for name, model in settings.models.items()
    }
    return settings.model_copy(update={"models": models})
