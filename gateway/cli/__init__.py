"""The `gateway` command. Each subcommand has a file of its own and imports what it needs when it runs.

Nothing heavy may be imported here: this page is loaded by every command, and `gateway serve` starts in its shadow.
"""

from __future__ import annotations

import typer

from gateway import __version__
from gateway.cli.check import check
from gateway.cli.serve import serve

app = typer.Typer(
    help="One local, OpenAI-compatible endpoint for every model.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:  # typer calls it with the option's value
    if wanted:
        typer.echo(f"gateway {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_show_version, help="Print the version."),  # noqa: FBT003  # typer's way to declare a flag
) -> None:
    """One local, OpenAI-compatible endpoint for every model."""


# These draw tables and progress bars, whose library takes as long to import as the rest of the command.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def models(context: typer.Context) -> None:
    """Fetch, list and remove models that run on this machine."""
    from gateway.cli.models import app as models_app

    models_app(context.args, prog_name="gateway models")


def routes(context: typer.Context) -> None:
    """List the names callers may send and what answers each."""
    from gateway.cli.routes import app as routes_app

    routes_app(context.args, prog_name="gateway routes")


def providers(context: typer.Context) -> None:
    """List the provider presets."""
    from gateway.cli.providers import app as providers_app

    providers_app(context.args, prog_name="gateway providers")


def engine(context: typer.Context) -> None:
    """List what runs local models here, and build the second engine."""
    from gateway.cli.engine import app as engine_app

    engine_app(context.args, prog_name="gateway engine")


def cache(context: typer.Context) -> None:
    """Look at the embeddings that are remembered, clear, export and import them."""
    from gateway.cli.cache import app as cache_app

    cache_app(context.args, prog_name="gateway cache")


def tokens(context: typer.Context) -> None:
    """Count the tokens of a request for the models that would get it."""
    from gateway.cli.tokens import app as tokens_app

    tokens_app(context.args, prog_name="gateway tokens")


def chaos(context: typer.Context) -> None:
    """Try a configuration against upstreams that fail on purpose; no real one is asked."""
    from gateway.cli.chaos import main as play

    raise typer.Exit(play(context.args))


app.command("serve")(serve)
app.command("check")(check)
app.command("models", add_help_option=False, context_settings=_PASSED_ON)(models)
app.command("routes", add_help_option=False, context_settings=_PASSED_ON)(routes)
app.command("providers", add_help_option=False, context_settings=_PASSED_ON)(providers)
app.command("engine", add_help_option=False, context_settings=_PASSED_ON)(engine)
app.command("cache", add_help_option=False, context_settings=_PASSED_ON)(cache)
app.command("tokens", add_help_option=False, context_settings=_PASSED_ON)(tokens)
app.command("chaos", add_help_option=False, context_settings=_PASSED_ON)(chaos)

__all__ = ["app"]
