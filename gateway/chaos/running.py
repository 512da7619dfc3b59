"""One run from a configuration to its report: which cases, how many of them, and what is weak before any is played."""

from __future__ import annotations

import asyncio
import difflib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gateway.app import make_provider
from gateway.call import Caller
from gateway.chaos.cases import Case, Field, candidates, cases
from gateway.chaos.configuring import describe_stand_ins, hosts_of, replace_far_sides
from gateway.chaos.driving import AT_A_TIME, Driver
from gateway.chaos.faults import TOTAL_IN_PATIENCES, Fault, faults
from gateway.chaos.report import Report
from gateway.chaos.stand_in import LOOPBACK
from gateway.config import Config, Resolved, resolve
from gateway.routing import Route, RouteTable

PATIENCE_SECONDS = 1.0
MOST_CASES = 3000

Tell = Callable[[int, int], None]  # hears how many cases are done, and of how many


class UnknownName(ValueError):
    """A wish names an alias or a fault that does not exist."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be tried: no `aliases` or `faults` means all. `log` is where the gateways' log lines go.

    `most_cases` is a limit that somebody wants; without one it is MOST_CASES, and what is beyond that fails the run.
    """

    aliases: Sequence[str] = ()
    faults: Sequence[str] = ()
    patience_seconds: float = PATIENCE_SECONDS
    most_cases: int | None = None
    log: Path = Path(os.devnull)


def run(config: Config, wishes: Wishes, tell: Tell = lambda _done, _all: None) -> Report:
    """Play the wished cases for `config` and return the report; raises UnknownName.

    What the gateways write to standard error meanwhile goes to the log of the wishes.
    """
    resolved = resolve(config)
    field = make_field(config, resolved, wishes)
    every = list(cases(field, _faults(wishes.faults)))
    chosen: list[Case] = list(islice(every, wishes.most_cases or MOST_CASES))
    began = time.perf_counter()
    with wishes.log.open("w", encoding="utf-8") as log, redirect_stderr(log):
        driver = Driver(config, resolved, wishes.patience_seconds)
        results = asyncio.run(driver.play_all(chosen, lambda done: tell(done, len(chosen))))
    return Report(
        config=config.file,
        patience_seconds=wishes.patience_seconds,
        results=results,
        left_out=len(every) - len(chosen),
        is_limit_wanted=wishes.most_cases is not None,
        notes=tuple(_notes(config, field, wishes)),
        weak=dict(find_weak(field)),
        seconds=time.perf_counter() - began,
    )


def make_field(config: Config, resolved: Resolved, wishes: Wishes) -> Field:
    """Return what the cases are made from; raises UnknownName for an alias that does not exist."""
    routes = _routes(config, resolved, wishes) if resolved.providers else []
    return Field(routes, resolved.providers, hosts_of(resolved.providers))


def _routes(config: Config, resolved: Resolved, wishes: Wishes) -> list[Route]:
    """Return the routes of the wished aliases as the driven configuration has them; nothing is opened."""
    urls = dict.fromkeys(resolved.providers, f"http://{LOOPBACK}:9")
    driven = resolve(replace_far_sides(config, resolved, urls, wishes.patience_seconds))
    providers = {name: make_provider(name, entry, Path()) for name, entry in driven.providers.items()}
    visible = RouteTable(driven.plan, providers).visible(Caller("chaos"))
    routes = {route.alias: route for route in visible if route.alias in driven.plan.routes}
    _check("alias", wishes.aliases, routes)
    return [route for alias, route in routes.items() if not wishes.aliases or alias in wishes.aliases]


def _faults(wished: Sequence[str]) -> tuple[Fault, ...]:
    known = {fault.name: fault for fault in faults()}
    _check("fault", wished, known)
    return tuple(fault for name, fault in known.items() if not wished or name in wished)


def _check(kind: str, wished: Iterable[str], known: Iterable[str]) -> None:
    names = list(known)
    for name in wished:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
            raise UnknownName(f"unknown {kind} {name!r}; {hint}")


def _notes(config: Config, field: Field, wishes: Wishes) -> Iterator[str]:
    yield (
        f"timeouts above {wishes.patience_seconds:g} s are cut to it, that of a whole answer to "
        f"{wishes.patience_seconds * TOTAL_IN_PATIENCES:g} s; {AT_A_TIME} cases are played at a time"
    )
    yield "who has the turn to fail is asked first: every case is played with the strategy priority and that deployment in front"
    if others := [f"{route.alias}: {route.strategy}" for route in field.routes if route.strategy != "priority"]:
        yield f"in which order the strategy of an alias really asks ({', '.join(others)}) is its own matter and not tried"
    yield from describe_stand_ins(config)


def find_weak(field: Field) -> Iterator[tuple[str, str]]:
    """Yield the aliases that one broken deployment, key or host takes away."""
    for route in field.routes:
        form = field.form_of(route)[0]
        among = candidates(route, form)
        names = ", ".join(each.name for each in among)
        if len(among) == 1 and len({each.name for each in route.deployments}) > 1:
            yield route.alias, f"only {names} can answer: the others' vectors are in another space"
        elif len(among) == 1:
            times = len(route.deployments)
            yield (
                route.alias,
                f"{names} is its only deployment" + (f", though named {times} times" if times > 1 else ""),
            )
        elif any(field.is_local(each) for each in among):
            continue
        elif len({each.account for each in among}) == 1:
            yield route.alias, f"{names} share a host and a key: a refused key, a rate limit or a lost host takes all"
        elif len({field.hosts[each.provider.name] for each in among}) == 1:
            yield route.alias, f"{names} share a host: when it is lost, all are"
