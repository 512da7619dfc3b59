"""`gateway providers`: the presets that are shipped."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.providers import presets

WIDTH_OF_FILES = 1000  # characters: nothing is cut where no terminal tells its own

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def providers(
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),  # noqa: FBT003  # a flag
) -> None:
    """List every preset: how it is spoken to, the variable of its key, and the model of each class."""
    rows = [describe(name) for name in presets.preset_names() if name not in presets.ALIASES]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    if as_json:
        console.print_json(data=rows)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "wire", "key", "is set", "classes", "checked"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(
            ", ".join([row["name"], *row["also"]]),
            row["wire"],
            row["key_variable"] or "-",
            "yes" if row["has_key"] else "no" if row["key_variable"] else "-",
            "\n".join(f"{word}: {model}" for word, model in row["classes"].items()) or "-",
            row["checked"],
        )
    console.print(table)


def describe(name: str) -> dict[str, Any]:
    """Return what is to be known of a preset; whether a key is there is told, never the key."""
    preset = presets.read_preset(name)
    if preset is None:
        raise KeyError(name)
    return {
        "name": name,
        "also": [alias for alias, target in presets.ALIASES.items() if target == name],
        "wire": preset.wire,
        "base_url": preset.base_url,
        "key_variable": preset.env,
        "has_key": bool(preset.env and os.environ.get(preset.env, "").strip()),
        "other_variables": [*preset.options.values(), *([preset.base_url_env] if preset.base_url_env else [])],
        "classes": dict(preset.classes),
        "settings": dict(preset.settings),
        "checked": preset.checked.isoformat(),
    }
