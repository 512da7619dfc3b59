"""How `gateway models` shows things: progress, tables, and errors in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from gateway.packaged import Candidate, Facts, PackagedModel, PackagedModelError, Record, Step, shown

MOST_FOUND = 50


def describe(model: PackagedModel) -> str:
    """Return one line that tells what will be fetched and under which licences."""
    return (
        f"{model.name}: {model.title}, licence {model.licence}; from the package {model.package} {model.version}, "
        f"licence {model.package_licence}, {megabytes(model.wheel_size)} MB"
    )


def megabytes(size: int) -> int:
    """Return `size` in millions of bytes, rounded."""
    return round(size / 1e6)


def table_of_packaged(models: Mapping[str, PackagedModel], is_there: Callable[[str], bool]) -> Table:
    """Return the table of models that can be fetched by name."""
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "model", "class", "licence", "size", "installed"):
        table.add_column(heading, no_wrap=True)
    for model in models.values():
        size = f"{megabytes(model.file_size)} MB"
        there = "yes" if is_there(model.name) else "no"
        table.add_row(model.name, model.title, " ".join(model.classes), model.licence, size, there)
    return table


def lines_of_added(added: list[tuple[Record | PackagedModelError, str]]) -> Iterator[str]:
    """Yield a line for each added model, with what is the matter with it, "" for nothing."""
    if added:
        yield "added:"
    for record, trouble in added:
        if isinstance(record, Record):
            yield f"  {record.name}: {shown(record.source)}, {megabytes(record.size)} MB, {trouble or 'ready'}"
        else:
            yield f"  {trouble}"


def lines_of_found(found: list[Candidate]) -> Iterator[str]:
    """Yield what lies on this machine and could be added, as commands."""
    if found:
        yield "on this machine, not added:"
    for candidate in found[:MOST_FOUND]:
        yield f"  gateway models add {_quoted(candidate.source)}  ({megabytes(candidate.size)} MB)"
    if len(found) > MOST_FOUND:
        yield f"  and {len(found) - MOST_FOUND} more"


def lines_of_facts(facts: Facts, record: Record | None, digests: list[tuple[Path, str]]) -> Iterator[str]:
    """Yield all that is known of a model."""
    if record is not None:
        at = f" at revision {record.revision}" if record.revision else ""
        yield f"name: {record.name}"
        yield f"from: {shown(record.source)}{at}"
    yield f"model: {facts.title or 'not said'}"
    yield f"architecture: {facts.architecture}"
    yield f"parameters: {_many(facts.parameters)}"
    yield f"context window: {facts.window or 'not said'}{' tokens' if facts.window else ''}"
    yield f"quantisation: {facts.quantisation}"
    yield f"chat template: {facts.template}"
    yield f"size: {megabytes(facts.size)} MB"
    many = f"{facts.requests} requests" if facts.requests > 1 else "one request"
    yield f"memory: about {megabytes(facts.memory)} MB with {many} of {facts.used_window} tokens at a time"
    for path, digest in digests:
        yield f"file: {path}"
        yield f"sha256: {digest}"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what can go wrong into one line on standard error and exit code 1."""
    try:
        yield
    except PackagedModelError as error:
        reason = str(error)
    except OSError as error:  # a file that is there and cannot be read
        reason = f"{error.filename or 'the models directory'}: {error.strerror or error}"
    else:
        return
    line = " ".join(reason.encode(errors="replace").decode().split())
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"gateway models: {line}")
    raise typer.Exit(1)


@contextmanager
def shown_progress(console: Console) -> Iterator[Callable[[Step], None]]:
    """Give a callback that shows steps: bars on a terminal, a line for each phase elsewhere."""
    if not console.is_terminal:
        yield _PhaseLines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


def _quoted(source: str) -> str:
    import shlex

    return shlex.quote("".join(letter if letter.isprintable() else "?" for letter in source))


def _many(count: int) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return str(count)


class _PhaseLines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ("", "")

    def __call__(self, step: Step) -> None:
        if (step.name, step.phase) != self._last and step.phase != "ready":
            self._console.print(f"{step.name}: {step.phase}")
        self._last = (step.name, step.phase)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._phase = ("", "")
        self._task = TaskID(0)

    def __call__(self, step: Step) -> None:
        if (step.name, step.phase) != self._phase:
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._phase = (step.name, step.phase)
            if step.phase == "ready":
                return
            self._task = self._bars.add_task(f"{step.name}: {step.phase}", total=step.total or None)
        self._bars.update(self._task, completed=step.finished, total=step.total or None)
