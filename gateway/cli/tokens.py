"""`gateway tokens`: how many tokens a request has for the models that would get it, and what of it would fit.

Nothing is started and nothing is asked: a model on this machine is counted by the nearest encoding, and that is said.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from gateway.app import make_provider
from gateway.call import Call, Caller, Record
from gateway.config import Config, load, resolve
from gateway.dispatch import TokenCounts
from gateway.errors import GatewayError
from gateway.http import check_countable, describe_counts, endpoint_of
from gateway.mistakes import ConfigError
from gateway.providers import LlamaCppSettings
from gateway.routing import RouteTable
from gateway.tokens import Encodings
from gateway.wire import parse_object

BAD_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
DEFAULT_FILE = Path("gateway.yaml")
PIPE = "-"
MOST_SHOWN = 20  # messages, prompts or inputs; of more only the number is shown
_APART = MappingProxyType({"prompts": "each prompt", "inputs": "each input"})  # what has the window for itself

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def tokens(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The body of a request, or - for standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
) -> None:
    """Count the tokens of a request for chat, a completion or embeddings, for each deployment of its model's name.

    Exit codes: 0, 1 with one line on standard error where the request is wrong, 78 for a mistake in the configuration.
    """
    try:
        loaded = load(config, environ=os.environ)
        counted = asyncio.run(_count(_read(file), loaded))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
    except GatewayError as error:
        reason = error.message
    except OSError as error:
        reason = f"{file}: {error.strerror or error}"
    else:
        local = {name for name, entry in resolve(loaded).providers.items() if isinstance(entry, LlamaCppSettings)}
        for line in [json.dumps(counted, ensure_ascii=False)] if as_json else _lines(counted, local):
            typer.echo(line)
        return
    typer.echo(f"gateway tokens: {' '.join(reason.encode(errors='replace').decode().split())}", err=True)
    raise typer.Exit(1)


def _read(file: str) -> dict[str, Any]:
    raw = sys.stdin.buffer.read() if file == PIPE else Path(file).read_bytes()
    body = parse_object(raw)
    check_countable(body)
    return body


async def _count(body: dict[str, Any], config: Config) -> dict[str, Any]:
    resolved = resolve(config)
    nowhere = Path()  # where model processes would listen
    providers = {name: make_provider(name, entry, nowhere) for name, entry in resolved.providers.items()}
    counts = TokenCounts(RouteTable(resolved.plan, providers), Encodings(), lambda _: None)
    caller = Caller("command", "admin")
    call = Call(endpoint_of(body), body, body["model"], stream=False, caller=caller, record=Record("", 0.0))
    try:
        alias, found = await counts.count(call)
    finally:
        for provider in providers.values():
            await provider.close()
    return {**describe_counts(alias, found), "deployments": [asdict(each) for each in found]}


def _lines(counted: dict[str, Any], local: set[str]) -> Iterator[str]:
    """Yield what a person reads."""
    yield f"{counted['model']}:"
    for each in counted["deployments"]:
        by = f"counted by {each['encoding']}"
        if each["margin"]:
            by += f" and {each['margin']:.0%} more"
        if each["deployment"].partition("/")[0] in local:
            by += ", the nearest encoding: the model itself, which knows better, is not started for this"
        yield f"  {each['deployment']}: {_tokens(each['tokens']['total'])}, {by}"
        yield f"    {_parts(each['tokens'])}"
        yield f"    {_outcome(each)}"


def _parts(tokens: dict[str, Any]) -> str:
    (name, each), *others = tokens.items()  # messages, prompts or inputs come first
    if len(each) <= MOST_SHOWN:
        words = [f"{name} {', '.join(map(_number, each))}"]
    else:
        words = [f"{name} {_number(sum(each))} ({_number(len(each))} of them)"]
    words += [f"{part} {_number(count)}" for part, count in others if part != "total" and count]
    return "; ".join(words)


def _outcome(each: dict[str, Any]) -> str:
    if each["input_limit"] is None:
        return "its window is not known here"
    room = f"a window of {_number(each['context_window'])}"
    if each["output_asked"] is not None:
        room += f", {_number(each['output_asked'])} asked of the answer"
    apart = _APART.get(next(iter(each["tokens"])), "the request")
    room += f", {_number(each['input_limit'])} for {apart}"
    lowered = each["would_lower_to"]
    end = "" if lowered is None else f"; the answer would have {_number(lowered)} at most"
    if each["fits"]:
        return f"{room}: it fits{end}"
    if each["would_drop"] is None:
        return f"{room}: it would be refused ({each['policy']})"
    if each["policy"] == "mean_pool":
        return f"{room}: parts would be embedded and their mean taken (mean_pool)"
    return f"{room}: {_number(each['would_drop'])} would be left out ({each['policy']}){end}"


def _tokens(count: int) -> str:
    return f"{_number(count)} token{'' if count == 1 else 's'}"


def _number(count: int) -> str:
    return f"{count:,}"
