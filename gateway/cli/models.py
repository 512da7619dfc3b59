"""`gateway models`: the models on this machine: add them, list them, tell about them, remove them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from gateway.cli.models_shown import (
    describe,
    lines_of_added,
    lines_of_facts,
    lines_of_found,
    one_line_errors,
    shown_progress,
    table_of_packaged,
)
from gateway.packaged import (
    CATALOG,
    HUB_SCHEME,
    PackagedModelError,
    Record,
    Wish,
    add,
    candidates,
    check_file,
    is_source,
    locate,
    read_facts,
    read_record,
    read_records,
    register,
    remove,
    silent,
    take_print,
    unregister,
    verify,
)

app = typer.Typer(
    name="models",
    help="Models that run on this machine without an account.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DataDir = Annotated[Path, typer.Option("--data-dir", help="Models live in its directory 'models'.", file_okay=False)]
What = Annotated[
    list[str],
    typer.Argument(
        metavar="WHAT...",
        help=f"{', '.join(CATALOG)}; hf:owner/repo/file.gguf; ollama:NAME[:TAG]; or the path of a GGUF file.",
    ),
]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="As `gateway models list` shows them.")]
Name = Annotated[str, typer.Option("--name", help="What it is to be called; default: as its file is called.")]
Revision = Annotated[str, typer.Option("--revision", help="Branch, tag or commit of the hub's repository.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read all files and compare their sha256.")]

DEFAULT_DATA_DIR = Path("data")


@app.command("add")
def add_models(what: What, name: Name = "", revision: Revision = "main", data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Fetch models, or register files that are there, which are not copied."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with one_line_errors():
        _check_wishes(what, name)
        for word in what:
            if word in CATALOG and locate(word, models_dir(data_dir)) is None:
                console.print(describe(CATALOG[word]))
        for word in what:
            if word in CATALOG:
                with shown_progress(console) as progress:
                    file = add(word, models_dir(data_dir), progress)
                console.print(f"{word}: ready, {file}")
            else:
                _register(Wish(word, name, revision), models_dir(data_dir), console)


@app.command("list")
def list_models(
    verified: Verify = False, data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:  # typer's way to declare a flag
    """Show which models there are, which are on this machine, and what lies here that could be added."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    directory = models_dir(data_dir)
    with one_line_errors():
        console.print(table_of_packaged(CATALOG, lambda name: locate(name, directory) is not None))
        known = [record for record in read_records(directory) if not _is_packaged(record)]
        for line in lines_of_added([(record, _trouble(record, directory, verified)) for record in known]):
            console.print(line)
        places = {
            os.path.realpath(file.path) for record in known if isinstance(record, Record) for file in record.files
        }
        found = [one for one in candidates(os.environ) if os.path.realpath(one.path) not in places]
        for line in lines_of_found(found):
            console.print(line)


@app.command("info")
def tell_about(
    what: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A model that is here, or a GGUF file.")],
    verified: Verify = False,  # typer's way to declare a flag
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what a model is, where it came from, and what memory it takes."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with one_line_errors():
        record = None if "/" in what or what.endswith(".gguf") else _known(what, models_dir(data_dir))
        if record is not None:
            verify(record, models_dir(data_dir), thoroughly=verified)
            files = check_file(record.file)
            digests = [(file.path, file.sha256) for file in record.files]
        else:
            files = check_file(Path(what).expanduser())
            digests = [(file, take_print(file.name, file).sha256) for file in files]
        for line in lines_of_facts(read_facts(files), record, digests):
            console.print(line)


@app.command("remove")
def remove_models(names: Names, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete packaged models from this machine, and forget added ones, whose files stay where they are."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    directory = models_dir(data_dir)
    with one_line_errors():
        for name in names:
            if name not in CATALOG and not _is_there(name, directory):
                raise _unknown(name)
        for name in names:
            if name in CATALOG:
                console.print(f"{name}: {'removed' if remove(name, directory) else 'was not installed'}")
                continue
            record = unregister(name, directory)
            stays = f"; {record.file} stays where it is" if record is not None and record.files else ""
            console.print(f"{name}: removed{stays}")


def models_dir(data_dir: Path) -> Path:
    """Return where models live under the data directory."""
    return data_dir / "models"


def _check_wishes(what: list[str], name: str) -> None:
    for word in what:
        if word not in CATALOG and not is_source(word):
            raise _unknown(word)
    if name and (len(what) > 1 or what[0] in CATALOG):
        raise PackagedModelError("--name is for one model that is no packaged one")


def _register(wish: Wish, directory: Path, console: Console) -> None:
    if wish.source.startswith(HUB_SCHEME):
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when its library is imported
        signal.signal(signal.SIGTERM, _end)
        console.print(f"{wish.source}: fetched into the hub's cache unless it is there")
        # That draws a bar of its own, which another one would tear apart.
        record, was_there = register(wish, directory, os.environ, silent)
    else:
        with shown_progress(console) as progress:
            record, was_there = register(wish, directory, os.environ, progress)
    at = f" at revision {record.revision}" if record.revision else ""
    how = "ready already" if was_there else "registered where it lies, not copied"
    console.print(f"{record.name}: {how}, {record.file}{at}")


def _end(number: int, _frame: object) -> NoReturn:
    """End as on Ctrl-C, so that what is half fetched is cleared away."""
    raise SystemExit(128 + number)


def _known(name: str, directory: Path) -> Record:
    record = read_record(name, directory)
    if record is None:
        if name in CATALOG:
            raise PackagedModelError(f"{name}: is not installed; gateway models add {name}")
        raise _unknown(name)
    return record


def _unknown(name: str) -> PackagedModelError:
    return PackagedModelError(f"{name}: there is no such model; there are {', '.join(sorted(CATALOG))}")


def _is_there(name: str, directory: Path) -> bool:
    try:
        return read_record(name, directory) is not None
    except PackagedModelError:  # a damaged record is there as well; a name that is none has no file
        return "/" not in name and (directory / f"{name}.gguf.json").is_file()


def _is_packaged(record: Record | PackagedModelError) -> bool:
    return isinstance(record, Record) and record.is_packaged


def _trouble(record: Record | PackagedModelError, directory: Path, verified: bool) -> str:  # as typer gives it
    if isinstance(record, PackagedModelError):
        return str(record)
    try:
        verify(record, directory, thoroughly=verified)
    except PackagedModelError as error:
        return str(error).removeprefix(f"{record.name}: ")
    return ""
