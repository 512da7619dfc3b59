"""`gateway serve`: run the gateway in the foreground."""

from __future__ import annotations

from pathlib import Path

import typer

DEFAULT_FILE = Path("gateway.yaml")


def serve(
    config: Path = typer.Option(DEFAULT_FILE, "--config", "-c", help="The configuration file."),
    host: str | None = typer.Option(None, "--host", help="Listen here instead of server.host."),
    port: int | None = typer.Option(None, "--port", min=0, max=65_535, help="Listen on this port; 0 takes a free one."),
) -> None:
    """Serve the models of the configuration until a signal ends it.

    Exit codes: 0 after SIGTERM or Ctrl-C, 78 for a mistake in the configuration, 1 when the port cannot be had.
    """
    from gateway import processes

    raise typer.Exit(processes.run(config, host, port))
