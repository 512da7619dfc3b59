"""`gateway cache`: what is remembered of embeddings: look at it, clear it, share it.

It works on the data directory and on Redis, whether a gateway runs or not; the memory of a running one follows.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn, TypeVar

import typer

from gateway.cache import Entry, ExportError, ExportWriter, SharedTier, Tiers, build_tiers, make_space, read_export
from gateway.cli.cache_shown import Counted, lines_of_report, number_of
from gateway.config import load
from gateway.mistakes import ConfigError

app = typer.Typer(
    name="cache",
    help="What is remembered of embeddings, on disk and in Redis.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

T = TypeVar("T")
BAD_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
DEFAULT_FILE = Path("gateway.yaml")
PIPE = "-"
BATCH_BYTES = 4 << 20  # of entries that are given to the disk at once
_AROUND = 256  # bytes that an entry takes besides its numbers, about
_UNKNOWN = bytes(32)  # the key of nothing: looking for it tells whether Redis answers

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
Model = Annotated[str, typer.Option("--model", help="Only what belongs to provider/model.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A file, or - for a pipe.")]


class CacheCommandError(Exception):
    """The command cannot be done; the text is one line for the person who gave it."""


@app.command("stats")
def stats(as_json: AsJson = False, config: Config = DEFAULT_FILE) -> None:
    """Show how much is remembered, where, and for which models."""

    async def look(tiers: Tiers) -> dict[str, Any]:
        if tiers.redis is not None:
            await tiers.redis.get_many([_UNKNOWN])
        return await tiers.report()

    with _one_line_errors():
        report = _run(config, lambda tiers, _: look(tiers))
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    for line in lines_of_report(report):
        typer.echo(line)


@app.command("clear")
def clear(model: Model = "", config: Config = DEFAULT_FILE) -> None:
    """Forget everything, or what belongs to one model, on disk and in Redis; gateways that run here follow.

    Those on other hosts that share the Redis keep what is in their memory for its time, and what is on their disks.
    """

    async def forget(tiers: Tiers) -> None:
        gone = await tiers.clear(model or None)
        for state in await tiers.states():
            if state.trouble:
                raise CacheCommandError(f"{state.name}: {state.trouble}; not everything is forgotten there")
            typer.echo(f"{state.name}: {number_of(gone[state.name], 'entry', 'entries')} forgotten")

    with _one_line_errors():
        if model and not all(model.partition("/")):
            raise CacheCommandError(f"{model}: expected provider/model, as `gateway cache stats` shows them")
        _run(config, lambda tiers, _: forget(tiers))


@app.command("export")
def export(file: File, config: Config = DEFAULT_FILE) -> None:
    """Write what is remembered on disk to one file, which others can import."""
    if file != PIPE:
        signal.signal(signal.SIGTERM, _end)
    with _one_line_errors(), _written(file) as out:
        writer = ExportWriter(out)

        async def write(tiers: Tiers) -> None:
            async for label, packed in _disk_of(tiers).iterate():
                writer.add(label, packed)

        _run(config, lambda tiers, _: write(tiers))
        writer.finish()
    typer.echo(f"{number_of(writer.count, 'entry', 'entries')} exported", err=True)


@app.command("import")
def import_(file: File, config: Config = DEFAULT_FILE) -> None:
    """Read a file that was exported, on to the disk; what is imported lives as long as if it was new.

    Every entry is checked. At the first that is damaged it ends with exit code 1; those before it are kept.
    """

    async def read(tiers: Tiers, counted: Counted, source: BinaryIO) -> str:
        importing = _Importing(_disk_of(tiers), counted, time.time())
        reason = ""
        try:
            for label, entry in read_export(source):
                await importing.take(label, entry)
        except ExportError as error:
            reason = f"{error}; "
        told = await importing.finish()
        if reason:
            raise CacheCommandError(reason + told)
        return told

    with _one_line_errors(), _opened(file) as source:
        told = _run(config, lambda tiers, counted: read(tiers, counted, source))
    typer.echo(told, err=True)


class _Importing:
    """Gives entries to the disk, not more at once than it takes; `now` is in Unix seconds."""

    def __init__(self, disk: SharedTier, counted: Counted, now: float) -> None:
        self._disk = disk
        self._counted = counted
        self._now = now
        self._waiting: dict[str, list[Entry]] = {}
        self._size = self._kept = self._over = 0

    async def take(self, label: str, entry: Entry) -> None:
        """Keep an entry, unless the time that its caller gave it is over."""
        if entry.until and entry.until <= self._now:
            self._over += 1
            return
        self._waiting.setdefault(label, []).append(entry)
        self._size += len(entry.vector) + _AROUND
        if self._size >= BATCH_BYTES:
            await self._write()

    async def finish(self) -> str:
        """Write the rest and return what became of all."""
        await self._write()
        told = f"{number_of(self._kept, 'entry', 'entries')} kept"
        if self._over:
            told += f", {self._over:,} left out whose time is over"
        if self._counted.evicted_for_room:
            told += f", {self._counted.evicted_for_room:,} older ones made room"
        return told

    async def _write(self) -> None:
        for label, entries in self._waiting.items():
            self._disk.put_many(entries, make_space(scope="", label=label, revision="", fields={}))
            self._kept += len(entries)
        self._waiting.clear()
        self._size = 0
        await self._disk.flush()
        if self._counted.failures:
            trouble = (await self._disk.state()).trouble or "writing failed"
            raise CacheCommandError(f"disk: {trouble}; not everything is kept")


def _disk_of(tiers: Tiers) -> SharedTier:
    if tiers.disk is None:
        raise CacheCommandError("embeddings.cache.disk is off: there is nothing to export from or import to")
    return tiers.disk


def _run(file: Path, work: Callable[[Tiers, Counted], Coroutine[Any, Any, T]]) -> T:
    """Do `work` on the tiers of the configuration, whose log is not for whoever gives a command."""
    try:
        config = load(file, environ=os.environ)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None

    async def run() -> T:
        settings, counted = config.embeddings.cache, Counted()
        if settings is None:
            raise CacheCommandError("embeddings.cache is off: nothing is remembered")
        tiers = build_tiers(
            settings.model_copy(update={"memory": None}),  # that of this process is of no use
            config.redis,
            config.server.data_dir,
            counted,
            now=time.time,
            dice=random.random,
        )
        try:
            return await work(tiers, counted)
        finally:
            await tiers.close()

    with redirect_stderr(io.StringIO()):
        return asyncio.run(run())


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (CacheCommandError, ExportError) as error:
        reason = str(error)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        reason = f"{name}{error.strerror or error}"
    else:
        return
    typer.echo(f"gateway cache: {' '.join(reason.encode(errors='replace').decode().split())}", err=True)
    raise typer.Exit(1)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == PIPE:
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as source:
        yield source


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Give a file that is there when all is written, and not before."""
    if file == PIPE:
        if sys.stdout.isatty():
            raise CacheCommandError("this is no text for a terminal; give a file, or a pipe")
        # A buffer of its own: Python would complain at the end if a reader of the usual one had gone.
        with open(sys.stdout.fileno(), "wb", closefd=False) as out:
            yield out
        return
    place = Path(file).resolve() if Path(file).is_symlink() else Path(file)
    if place.exists() and not place.is_file():  # a device or a named pipe: it must stay what it is
        with place.open("wb") as out:
            yield out
        return
    fresh = Path(f"{place}.incomplete")
    try:
        with fresh.open("wb") as out:
            yield out
        fresh.replace(place)
    finally:
        fresh.unlink(missing_ok=True)


def _end(number: int, _frame: object) -> NoReturn:
    """End as on Ctrl-C, so that what is half written is cleared away."""
    raise SystemExit(128 + number)
