"""`gateway check`: say what a configuration comes to, or what is wrong with it, without starting anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from gateway.call import Endpoint
    from gateway.config import Config, Resolved
    from gateway.routing import DeploymentPlan

BAD_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
DEFAULT_FILE = Path("gateway.yaml")

_SECRET_SETTING = re.compile(r"(^|[_-])(key|token|secret|password|auth)$", re.IGNORECASE)


def check(file: Path = typer.Argument(DEFAULT_FILE, help="The configuration file.")) -> None:
    """Print the resolved configuration with its secrets masked.

    Exit codes: 0 if the gateway can start with it, 78 with one line on standard error for each mistake.
    """
    from gateway.config import load, resolve
    from gateway.mistakes import ConfigError

    try:
        config = load(file, environ=os.environ)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
    for line in describe(config, resolve(config)):
        typer.echo(line)
    for line in config.refused:
        typer.echo(line, err=True)
    if config.refused:
        raise typer.Exit(BAD_CONFIGURATION)


def describe(config: Config, resolved: Resolved) -> Iterator[str]:
    """Yield the lines that say what `config` comes to."""
    server = config.server
    processes = f"{server.workers} process{'es' if server.workers > 1 else ''}"
    yield f"{config.file}: in order"
    yield "server:"
    yield f"  listens on {server.host} port {server.port}, {processes}; data in {server.data_dir}"
    yield "keys:"
    yield from _keys(config)
    yield "providers:"
    yield from _providers(config)
    yield "models:"
    yield from _routes(resolved)
    yield from _section("local models", _local_models(config))
    yield from _section("warnings", _warnings(config, resolved))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = [f"  {line}" for line in lines]
    if found:
        yield f"{title}:"
        yield from found


def _keys(config: Config) -> Iterator[str]:
    if not config.auth.keys:
        yield "  none: whoever is on this machine may call"
    for key in config.auth.keys:
        tail = sha256(key.key.get_secret_value().encode()).hexdigest()[-4:]
        yield f"  {key.name}: {key.role}, models {', '.join(key.models)}, sha256 ends in {tail}"


def _providers(config: Config) -> Iterator[str]:
    from gateway.providers import HostedSettings, key_source

    for name, entry in config.providers.items():
        if name in config.off:
            yield f"  {name}: off, {config.off[name]}"
        elif isinstance(entry, HostedSettings):
            headers = f", headers {', '.join(entry.headers)}" if entry.headers else ""
            yield f"  {name}: on, {entry.base_url or 'its own endpoint'}, {key_source(entry)}{headers}"
        else:
            yield f"  {name}: on, runs {', '.join(entry.models)} on this machine"


def _routes(resolved: Resolved) -> Iterator[str]:
    from gateway.providers import LlamaCppSettings

    for alias, route in resolved.plan.routes.items():
        yield f"  {alias}:"
        for number, deployment in enumerate(route.deployments, 1):
            yield f"    {number}. {deployment.provider}/{deployment.model}{_details(alias, deployment)}"
    for name, entry in resolved.providers.items():
        if isinstance(entry, LlamaCppSettings):
            yield f"  {', '.join(f'{name}/{model}' for model in entry.models)}"
        else:
            yield f"  {name}/…: any model of {name}, by its own name"


def _details(alias: str, deployment: DeploymentPlan) -> str:
    from gateway.routing import TimeoutSettings

    endpoints: dict[str, Endpoint] = {"embedding": "embeddings", "image": "images/generations"}
    settings = deployment.settings[endpoints.get(alias, "chat/completions")]
    words = [_shown(name, value) for name, value in settings.items() if name not in deployment.refuses]
    usual = TimeoutSettings()
    words += [f"{name}={value:g}" for name, value in deployment.timeouts if value != getattr(usual, name)]
    return f" ({', '.join(words)})" if words else ""


def _shown(name: str, value: object) -> str:
    """Write a setting with its value where that is a number or true or false; any text may be a secret."""
    is_plain = isinstance(value, int | float) and not _SECRET_SETTING.search(name)
    return f"{name}={value}" if is_plain else name


def _local_models(config: Config) -> Iterator[str]:
    from gateway.packaged import why_changed
    from gateway.processes import plan_models

    models_dir = config.server.data_dir / "models"
    for plan in plan_models(config, Path()):
        yield (
            f"{plan.name}: {_trouble_of(plan.file) or why_changed(plan.file, models_dir) or plan.file}"
            if plan.file.is_file()
            else (f"{plan.name}: {plan.file} is missing; {plan.remedy}")
        )


def _trouble_of(file: Path) -> str:
    from gateway.worker import GgufError, check_gguf

    try:
        check_gguf(file)
    except (GgufError, OSError) as error:
        return f"{file} cannot be used: {error}"
    return ""


def _engine_trouble(resolved: Resolved) -> Iterator[str]:
    from gateway.providers import LlamaCppSettings
    from gateway.worker import why_unavailable

    for name, entry in resolved.providers.items():
        if isinstance(entry, LlamaCppSettings) and (reason := why_unavailable(entry.engine)):
            yield f"the models of {name} cannot run on this machine: {reason}"


def _warnings(config: Config, resolved: Resolved) -> Iterator[str]:
    from gateway.config import warn_of_retirement

    yield from warn_of_retirement(resolved, date.today())  # noqa: DTZ011  # retirement is by the day, anywhere
    yield from config.warnings
    yield from _engine_trouble(resolved)
    yield from (note for note in config.notes if note.startswith("model "))
    if not resolved.plan.routes:
        yield "no model can be served: no provider that is on serves a class, and `models` names none"
