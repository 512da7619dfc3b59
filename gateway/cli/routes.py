"""`gateway routes`: which names callers may send, and what answers each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.config import Config, Resolved, known_facts, load, resolve
from gateway.mistakes import ConfigError
from gateway.providers import HostedSettings, LiteLLMSettings, LlamaCppSettings
from gateway.routing import DeploymentPlan

BAD_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
DEFAULT_FILE = Path("gateway.yaml")

AUTO_RULE = "small, medium or large, by the task"
WIDTH_OF_FILES = 1000  # characters: nothing is cut where no terminal tells its own

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def routes(
    file: Path = typer.Argument(DEFAULT_FILE, help="The configuration file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),  # noqa: FBT003  # a flag
) -> None:
    """List every alias with its deployments, their limits, prices and retirement dates.

    Exit codes: 0, or 78 with one line on standard error for each mistake in the configuration.
    """
    try:
        config = load(file, environ=os.environ)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
    resolved = resolve(config)
    rows = list(describe(config, resolved))
    if as_json:
        Console(soft_wrap=True, highlight=False).print_json(data=rows)
    else:
        _print(rows)


def describe(config: Config, resolved: Resolved) -> Iterator[dict[str, Any]]:
    """Yield one mapping for each alias; a class that nobody serves has no deployments and says why."""
    for alias, route in resolved.plan.routes.items():
        yield {
            "alias": alias,
            "strategy": route.strategy,
            "deployments": [_deployment(resolved, deployment) for deployment in route.deployments],
            "context_fallbacks": [_deployment(resolved, deployment) for deployment in route.context_fallbacks],
            "content_filter_fallbacks": [
                _deployment(resolved, deployment) for deployment in route.content_filter_fallbacks
            ],
            "missing": None,
        }
    if resolved.plan.chooses:
        yield {"alias": "auto", "strategy": AUTO_RULE, "deployments": [], "missing": None}
    for name, reason in resolved.plan.missing.items():
        yield {"alias": name, "strategy": None, "deployments": [], "missing": reason}


def _deployment(resolved: Resolved, plan: DeploymentPlan) -> dict[str, Any]:
    entry = resolved.providers[plan.provider]
    facts = known_facts(resolved, plan)
    return {
        "deployment": f"{plan.provider}/{plan.model}",
        "context_window": plan.context_window or (facts.context_window if facts else None),
        "max_output_tokens": plan.max_output_tokens or (facts.max_output_tokens if facts else None),
        "input_usd_per_million": facts.input_usd if facts else None,
        "output_usd_per_million": facts.output_usd if facts else None,
        "retires": facts.retires.isoformat() if facts and facts.retires else None,
        "has_key": _has_key(entry),
    }


def _has_key(entry: HostedSettings | LlamaCppSettings) -> bool | None:
    """Tell whether there are credentials, None where none can be needed."""
    if not isinstance(entry, HostedSettings):
        return None
    return bool(entry.api_key.get_secret_value() or (isinstance(entry, LiteLLMSettings) and entry.options))


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("alias", "deployment", "window", "longest answer", "$/M in", "$/M out", "retires", "key"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        for cells in _lines(row):
            table.add_row(*(Text(_cell(value)) for value in cells))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    console.print(table)
    for row in rows:
        if row["missing"]:
            console.print(row["missing"], markup=False, soft_wrap=True)


def _lines(row: dict[str, Any]) -> Iterator[list[object]]:
    """Yield the cells of each line that an alias takes."""
    name = row["alias"] if row["strategy"] in (None, "priority", AUTO_RULE) else f"{row['alias']} ({row['strategy']})"
    if not row["deployments"]:
        yield [name, "-" if row["missing"] else row["strategy"]]
    for deployment in row["deployments"]:
        yield [name, *deployment.values()]
        name = ""
    for reason, instead in (("too long", "context_fallbacks"), ("filtered", "content_filter_fallbacks")):
        for deployment in row.get(instead, ()):
            yield [f"  if {reason}", *deployment.values()]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
