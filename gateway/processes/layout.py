"""From a checked configuration to what is to run: how many workers with which assignment, and which models.

A pure reading of the configuration; nothing is started here. Importing this module is most of what the parent process
has to load, so `parent.py` does it while the first worker's interpreter starts.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from gateway.config import Config, resolve, warn_of_retirement
from gateway.packaged import HUB_SCHEME, KeptFile, PackagedModelError, Record, find_by_source, read_record
from gateway.processes.children import program
from gateway.processes.memory import MEBIBYTE
from gateway.processes.model_plan import ModelPlan
from gateway.providers import LlamaCppSettings, LocalModelSettings
from gateway.rundir import model_socket, model_status

WORKER = "gateway.worker"
VERIFIED = "gateway.packaged.verified"


@dataclass(frozen=True, slots=True)
class Layout:
    """What is to run; `patience_seconds` is how long workers may take to end, `lines` are for the operator.

    `memory` has the bytes that the models of each local provider may take together, None for no limit.
    """

    host: str
    port: int
    workers: int
    models: tuple[ModelPlan, ...]
    memory: Mapping[str, int | None]
    patience_seconds: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def lay_out(config: Config, run_dir: Path, today: date) -> Layout:
    """Return the layout of `config`, with model processes that listen in `run_dir`; warns of what retires by `today`."""
    server = config.server
    return Layout(
        host=server.host,
        port=server.port,
        workers=server.workers,
        models=tuple(plan_models(config, run_dir)),
        memory={
            name: settings.memory_mb and settings.memory_mb * MEBIBYTE
            for name, settings in resolve(config).providers.items()
            if isinstance(settings, LlamaCppSettings)
        },
        patience_seconds=server.accept_grace_seconds + server.grace_seconds,
        notes=config.notes,
        warnings=(*config.warnings, *warn_of_retirement(resolve(config), today)),
    )


def plan_models(config: Config, run_dir: Path) -> Iterator[ModelPlan]:
    """Yield a plan for each model of the local providers that are on."""
    for provider, settings in resolve(config).providers.items():
        if isinstance(settings, LlamaCppSettings):
            for model, wanted in settings.models.items():
                place = locate_model(config, f"{provider}.models.{model}", model, wanted)
                socket = model_socket(run_dir, provider, model)
                yield ModelPlan(
                    name=f"{provider}/{model}",
                    command=(*place.program, *_arguments(model, wanted, place.file, socket, settings)),
                    file=place.file,
                    remedy=place.remedy,
                    status=model_status(run_dir, provider, model),
                    socket=socket,
                    loads_at_start=wanted.load == "start",
                    provider=provider,
                    max_wait=wanted.max_wait_seconds,
                )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies, what to do when it does not, and the start of the command that runs it."""

    file: Path
    remedy: str
    program: tuple[str, ...]


def locate_model(config: Config, at: str, model: str, wanted: LocalModelSettings) -> Place:
    """Return where the model is that the configuration has at providers.`at`.

    One that was added is run by way of a check that its files are still what they were.
    """
    data_dir = config.server.data_dir
    if wanted.path and not wanted.path.startswith(HUB_SCHEME):
        return Place(Path(wanted.path), f"check providers.{at}.path.", tuple(program(WORKER)))
    models_dir = data_dir / "models"
    if wanted.path:
        record = find_by_source(wanted.path, models_dir)
        name, again = wanted.path, ", then start the gateway again"
    else:
        record, name, again = _recorded(model, models_dir), model, ""
    remedy = f"fetch it with: gateway models add {shlex.quote(name)}{_data_option(data_dir)}{again}"
    if record is None:
        return Place(packaged_file(data_dir, name.replace("/", "_")), remedy, tuple(program(WORKER)))
    if not record.is_packaged:
        remedy = (
            f"put it back, or add it again with: gateway models add {shlex.quote(record.source)} --name {record.name}"
        )
        remedy += _data_option(data_dir)
    return Place(record.file, remedy, (*program(VERIFIED), str(models_dir), record.name, WORKER))


def _recorded(model: str, models_dir: Path) -> Record | None:
    try:
        return read_record(model, models_dir)
    except PackagedModelError:  # one that is damaged is told of when the model is run
        damaged = packaged_file(models_dir.parent, model)
        kept = KeptFile(path=damaged, sha256="", size=0, changed_ns=0)
        return Record(name=model, source="", files=(kept,), is_packaged=True)


def _arguments(
    model: str, wanted: LocalModelSettings, file: Path, socket: Path, settings: LlamaCppSettings
) -> Iterator[str]:
    values: Mapping[str, object] = {
        "--model": file,
        "--socket": socket,
        "--name": model,
        "--threads": wanted.threads,
        "--slots": wanted.parallel,
        "--context-window": wanted.context_window,
        "--engine": settings.engine,
        "--max-waiting": wanted.max_waiting,
        "--max-wait": wanted.max_wait_seconds,
        "--too-long": wanted.too_long,
        "--gpu-layers": wanted.gpu_layers,
        "--keep-alive": wanted.keep_alive_seconds,
        "--memory-mb": settings.memory_mb,
    }
    for option, value in values.items():
        if value is not None:  # in one word, so that no value can be taken for an option
            yield f"{option}={os.fspath(value) if isinstance(value, Path) else value}"
    for flag in ("embedding", "exclusive", "rerank"):
        if getattr(wanted, flag):
            yield f"--{flag}"


def _data_option(data_dir: Path) -> str:
    """Return what the command needs to know of a data directory that is not the usual one."""
    return "" if data_dir == Path("data").absolute() else f" --data-dir {shlex.quote(str(data_dir))}"


def packaged_file(data_dir: Path, model: str) -> Path:
    return data_dir / "models" / f"{model}.gguf"
