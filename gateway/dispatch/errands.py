"""Asking upstreams for the inputs that nobody remembers: gathered over requests, split by what an upstream takes.

An errand is a task of its own, so that whoever waits for its flights may come and go (`flights.py`). What is remembered
and what a caller reads is the business of `embeddings.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from gateway.cache import Entry, Space
from gateway.call import Call, Record, Usage
from gateway.dispatch.fitting import Fitting, window_of
from gateway.dispatch.flights import Flight, Flights, Waiter
from gateway.dispatch.loads import Load, Part, divide, share_cut, share_tokens
from gateway.errors import GatewayError, RequestError, ShuttingDown, UpstreamRejected, UpstreamTooLarge
from gateway.routing import Deployment, Failover, Route

_Alike = tuple[bytes, Any, tuple[str, ...]]  # what requests have in common that may be asked together
_SMALL = 64  # inputs of a request that may wait for others: a larger one is a call of its own


@dataclass(frozen=True, slots=True)
class Question:
    """What all inputs of a request have in common: how its answer is found, and where it is remembered."""

    call: Call
    route: Route
    space: Space


@dataclass(frozen=True, slots=True)
class Terms:
    """`gathering` gives the seconds that small requests to a deployment wait for others, to be asked together.

    `parallel` are the parts of split requests that are asked at once, of one request and of all to one deployment.
    `now` gives Unix seconds.
    """

    gathering: Callable[[Deployment], float]
    parallel: int
    now: Callable[[], float]


@dataclass(slots=True)
class _Errand:
    """`open` are its flights that have not landed and that somebody waits for."""

    open: int
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Gathering:
    question: Question
    flights: list[Flight] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Errands:
    """Sends for what is missing; `remember` takes the entries that came."""

    def __init__(
        self,
        failover: Failover,
        fitting: Fitting,
        flights: Flights,
        remember: Callable[[Sequence[Entry], Space], None],
        terms: Terms,
    ) -> None:
        self._failover = failover
        self._fitting = fitting
        self._flights = flights
        self._remember = remember
        self._terms = terms
        self._gatherings: dict[_Alike, _Gathering] = {}
        # By deployment, while anybody asks for parts: callers may spell out any number of models.
        self._at_once: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, question: Question, flights: list[Flight]) -> None:
        """Have these flights answered, soon; each of them lands."""
        seconds = self._terms.gathering(question.route.deployments[0])
        if not seconds or len(flights) > _SMALL:
            self._begin(question, flights)
            return
        # Nothing is sent where its own alias does not lead.
        names = tuple(deployment.name for deployment in question.route.deployments)
        key = question.space.identity, question.call.body.get("user"), names
        gathering = self._gatherings.get(key)
        if gathering is None:
            gathering = self._gatherings[key] = _Gathering(question)
            gathering.timer = asyncio.get_running_loop().call_later(seconds, self._close_gathering, key)
        gathering.flights += flights
        for flight in flights:
            flight.stop = self._flights.abandon
        if len(gathering.flights) >= _SMALL:
            self._close_gathering(key)

    async def close(self) -> None:
        """End everything that is on its way."""
        for key in list(self._gatherings):
            self._close_gathering(key)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close_gathering(self, key: _Alike) -> None:
        gathering = self._gatherings.pop(key)
        if gathering.timer is not None:
            gathering.timer.cancel()
        wanted = [flight for flight in gathering.flights if flight.waiting]
        if wanted:
            self._begin(gathering.question, wanted)

    def _begin(self, question: Question, flights: list[Flight]) -> None:
        errand = _Errand(len(flights))
        for flight in flights:
            flight.stop = partial(self._leave, errand)
        task = errand.task = asyncio.create_task(self._run(question, flights, errand))
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, errand, flights))

    def _end(self, errand: _Errand, flights: list[Flight], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        errand.task = None  # its end leads back to here: what it held must not wait for the garbage collector
        for flight in flights:  # what is still on its way was cancelled, maybe before it began
            if not flight.has_landed:
                self._flights.land(flight, ShuttingDown())

    def _leave(self, errand: _Errand, flight: Flight) -> None:
        self._flights.abandon(flight)
        errand.open -= 1
        if errand.open == 0 and errand.task is not None:
            errand.task.cancel()

    async def _run(self, question: Question, flights: list[Flight], errand: _Errand) -> None:
        try:
            loads = await self._fitting.load(flights, question.route)
            parts = list(divide(loads, question.route))
            if len(parts) == 1:
                await self._ask(question, parts[0], errand)
            else:
                await self._ask_all(question, parts, errand)
        except Exception as error:  # noqa: BLE001  a defect of ours, too, is told to whoever waits
            for flight in flights:
                self._flights.land(flight, error)

    async def _ask_all(self, question: Question, parts: list[Part], errand: _Errand) -> None:
        """Ask for several parts at once, in turn with those of other requests."""
        deployment = question.route.deployments[0].name
        at_once = self._at_once.setdefault(deployment, asyncio.Semaphore(self._terms.parallel))
        left = iter(parts)

        async def work() -> None:
            for part in left:
                async with at_once:
                    if _asker(part) is not None:
                        await self._ask(question, part, errand)

        # A TaskGroup that is cancelled leaves a circle behind, with all that was asked for in it.
        works = [work() for _ in range(min(self._terms.parallel, len(parts)))]
        for outcome in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _ask(self, question: Question, part: Part, errand: _Errand) -> None:
        """Ask for one part, and let those flights land whose vectors are complete, with an error all of it."""
        try:
            vectors, usage = await self._fetch(question, part)
            made = self._make_entries(question, part, vectors, usage)
        except (RequestError, UpstreamRejected, UpstreamTooLarge) as error:
            apart = _by_requests(part)
            if apart == [part]:
                self._fail(part, error, errand)
                return
            error.__traceback__ = None
            for own in apart:  # one request is to blame, and the others need not know
                if _asker(own) is not None:
                    await self._ask(question, own, errand)
        except Exception as error:  # noqa: BLE001  as in `_run`, for this part alone: others may well succeed
            self._fail(part, error, errand)
        else:
            self._remember([entry for flight, entry in made if flight.stores], question.space)
            for flight, entry in made:
                self._land(flight, entry, errand)

    async def _fetch(self, question: Question, part: Part) -> tuple[Sequence[bytes], Usage]:
        call = _asker(part) or question.call
        pieces = [owner.pieces[place].given for owner, place in part]
        asked = call.body["input"]
        is_bare = len(pieces) == 1 and (isinstance(asked, str) or isinstance(asked[0], int))
        record = Record(call.record.request_id, call.record.started)
        for owner in _owners(part):
            owner.flight.asked = record
        asking = replace(call, body={**call.body, "input": pieces[0] if is_bare else pieces}, record=record)
        try:
            async with await self._failover.first_success(asking, question.route) as reply:
                assert reply.vectors is not None  # noqa: S101  every answer to this endpoint is read into vectors
                record.flaws = reply.flaws
                return reply.vectors, reply.usage or Usage()
        finally:
            (_asker(part) or call).record.absorb(record)  # whoever asked may have left, and is written down already

    def _make_entries(
        self, question: Question, part: Part, vectors: Sequence[bytes], usage: Usage
    ) -> list[tuple[Flight, Entry]]:
        """Return what the vectors of a part complete; raises UpstreamProtocolError as `Load.make_entry` does."""
        for (owner, place), vector, count in zip(part, vectors, share_tokens(part, usage.prompt_tokens), strict=True):
            owner.vectors[place] = vector
            owner.tokens += count
        if usage.truncated_tokens:
            cut = share_cut(part, usage.truncated_tokens, window_of(question.route) or 0)
            for (owner, _), count in zip(part, cut, strict=True):
                owner.over += count
        created = int(self._terms.now())
        return [
            (owner.flight, owner.make_entry(question.space, created)) for owner in _owners(part) if owner.is_complete
        ]

    def _fail(self, part: Part, error: Exception, errand: _Errand) -> None:
        if isinstance(error, GatewayError):
            error.__traceback__ = None  # as in `_end`
        for owner in _owners(part):
            self._land(owner.flight, error, errand)

    def _land(self, flight: Flight, outcome: Entry | Exception, errand: _Errand) -> None:
        errand.open -= bool(flight.waiting)
        self._flights.land(flight, outcome)


def _owners(part: Part) -> Iterator[Load]:
    """Yield each load of a part once."""
    return iter({id(owner): owner for owner, _ in part}.values())


def _asker(part: Part) -> Call | None:
    """Return a request that waits for some of a part, None if nobody does."""
    return next((owner.flight.waiting[0].call for owner, _ in part if owner.flight.waiting), None)


def _by_requests(part: Part) -> list[Part]:
    """Return a part in smaller ones, each of what the same requests wait for; without what nobody waits for."""
    apart: dict[frozenset[Waiter], Part] = {}
    for placed in part:
        if waiting := placed[0].flight.waiting:
            apart.setdefault(frozenset(waiting), []).append(placed)
    return list(apart.values())
