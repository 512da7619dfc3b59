"""The way of an embeddings request, from a checked call to its vectors.

What is remembered is not asked for again, and what is asked for once comes back for all who want it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from gateway.cache import Entry, Input, Space, Tiers, Wishes, make_space
from gateway.call import CacheUse, Call, Record, Usage
from gateway.dispatch.errands import Errands, Question
from gateway.dispatch.fitting import policy_of
from gateway.dispatch.flights import Flight, Flights, Waiter
from gateway.dispatch.loads import check_sizes
from gateway.errors import NotRemembered
from gateway.routing import Deployment, Route, RouteTable, Truncation
from gateway.wire import FLOAT_BYTES, split_inputs

# A request with no other fields has the same space each time, which takes longer to make than one input's key.
_PLAIN = frozenset({"model", "input", "encoding_format", "user", "dimensions"})
_MOST_SPACES = 1000
_AT_ONCE = 1024 * 1024  # characters that are hashed before others have their turn: a few milliseconds


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer: one vector for each input, in the caller's order, float32 little-endian; `model` is the upstream's name."""

    vectors: list[bytes]
    usage: Usage
    model: str


class EmbeddingDispatcher:
    """Brings back a vector for each input; `now` gives Unix seconds.

    `tiers` is None where nothing is remembered: then every request is asked as it came. With `is_shared` callers find
    what others asked.
    """

    def __init__(
        self,
        routes: RouteTable,
        tiers: Tiers | None,
        flights: Flights,
        errands: Errands,
        now: Callable[[], float],
        *,
        is_shared: bool = True,
    ) -> None:
        self._routes = routes
        self._tiers = tiers
        self._flights = flights
        self._errands = errands
        self._now = now
        self._is_shared = is_shared
        self._spaces: dict[tuple[str, str, int | None, str], Space] = {}  # of requests with the usual fields

    async def embed(self, call: Call, wishes: Wishes) -> Embedded:
        """Return the vectors that `call` asks for.

        Raises ModelNotFound, PermissionDenied, NoDeployment, NotRemembered, UpstreamProtocolError where the vectors are
        not of one size, or the error of the last deployment that was asked for any of the inputs.
        """
        route = self._routes.resolve(call).in_one_space
        if call.truncation:
            route = replace(route, truncation=cast("Truncation", call.truncation))
        call.record.alias = route.label
        question = Question(call, route, self._space(call, route))
        inputs = split_inputs(call.body["input"])
        keys = await self._keys(question.space, inputs)
        known = await self._recall(question, keys, wishes)
        if _has_all(known, keys):
            return _gather(question, keys, known, {}, set())
        missing = {key: given for key, given in zip(keys, inputs, strict=True) if key not in known}
        if wishes.only_cached:
            raise NotRemembered("Not every input is remembered, and 'only-if-cached' was asked for.")
        fresh, joined = await self._fetch(question, missing, wishes)
        fitting = _of_size(known, next(iter(fresh.values())).dimensions) if fresh else known
        if len(fitting) < len(known):  # the model behind the name gives vectors of another size now
            former = known.keys() - fitting.keys()
            again = {key: given for key, given in zip(keys, inputs, strict=True) if key in former}
            known = fitting
            _note_use(call.record, keys, known)
            more, joined_too = await self._fetch(question, again, wishes)
            fresh |= more
            joined |= joined_too
        return _gather(question, keys, known, fresh, joined)

    def _space(self, call: Call, route: Route) -> Space:
        first = route.deployments[0]
        if not (first.is_configured and call.body.keys() <= _PLAIN):
            return self._make_space(call, route, first)
        scope = "" if self._is_shared else call.caller.name
        key = (route.alias, scope, call.body.get("dimensions"), policy_of(route))
        space = self._spaces.get(key)
        if space is None:
            if len(self._spaces) >= _MOST_SPACES:
                self._spaces.clear()
            space = self._spaces[key] = self._make_space(call, route, first)
        return space

    def _make_space(self, call: Call, route: Route, first: Deployment) -> Space:
        said = {name: value for name, value in call.body.items() if value is not None}
        return make_space(
            scope="" if self._is_shared else call.caller.name,
            label=first.name,
            revision=first.revision,
            fields={"dimensions": first.dimensions, **first.settings["embeddings"], **said},
            policy=policy_of(route),
        )

    async def _keys(self, space: Space, inputs: Sequence[Input]) -> list[bytes]:
        if self._tiers is None:
            return [place.to_bytes(4, "big") for place in range(len(inputs))]
        if sum(map(len, inputs)) <= _AT_ONCE:
            return space.keys(inputs)
        keys: list[bytes] = []
        done = 0
        for given in inputs:
            keys.append(space.key(given))
            done += len(given)
            if done > _AT_ONCE:
                done = 0
                await asyncio.sleep(0)  # other calls are served meanwhile
        return keys

    async def _recall(self, question: Question, keys: Sequence[bytes], wishes: Wishes) -> dict[bytes, Entry]:
        """Return what is remembered and fits.

        What has other dimensions than are expected does not; where none are, than what was remembered last.
        """
        if self._tiers is None:
            return {}
        use = question.call.record.cache = CacheUse(misses=len(keys))
        if not wishes.reads:
            return {}
        oldest = None if wishes.newer_than is None else self._now() - wishes.newer_than
        recalled = await self._tiers.recall(keys, question.space, oldest)
        found, use.tiers = recalled.entries, recalled.tiers
        if not _has_all(found, keys):  # others may have brought something while slower tiers were asked
            missing = [key for key in keys if key not in found]
            late = self._tiers.recall_now(missing)
            late = {key: entry for key, entry in late.items() if oldest is None or entry.created >= oldest}
            found |= late
            if late:
                recalled.tiers["memory"] = recalled.tiers.get("memory", 0) + sum(key in late for key in missing)
        known = _of_size(found, question.space.dimensions)
        _note_use(question.call.record, keys, known)
        return known

    async def _fetch(
        self, question: Question, missing: Mapping[bytes, Input], wishes: Wishes
    ) -> tuple[dict[bytes, Entry], set[bytes]]:
        """Return entries for all that is missing, and the keys of those that others had asked for already."""
        if not missing:
            return {}, set()
        until = 0 if wishes.ttl is None else int(self._now()) + wishes.ttl
        flights: list[Flight] = []
        own: list[Flight] = []
        for key, given in missing.items():
            flight = self._flights.find(key) if wishes.reads else None
            if flight is None:
                flight = Flight(key, given)
                own.append(flight)
                if self._tiers is not None:
                    self._flights.take_off(flight)
            if wishes.stores:
                flight.keep(until)
            flights.append(flight)
        waiter = Waiter(question.call, flights)
        if own:
            self._errands.send(question, own)
        try:
            await waiter.wait()
        finally:
            _note_asked(question.call.record, flights)
        entries = {flight.key: flight.entry for flight in flights if flight.entry is not None}
        return entries, missing.keys() - {flight.key for flight in own}


def _has_all(entries: Mapping[bytes, Entry], keys: Sequence[bytes]) -> bool:
    return all(map(entries.__contains__, keys))


def _created(entry: Entry) -> int:
    return entry.created


def _of_size(entries: dict[bytes, Entry], dimensions: int | None) -> dict[bytes, Entry]:
    """Return the entries of this size; None stands for that of the entry which was remembered last."""
    sizes = {len(entry.vector) for entry in entries.values()}
    if len(sizes) <= 1 and (dimensions is None or sizes <= {dimensions * FLOAT_BYTES}):
        return entries
    if dimensions is None:
        dimensions = max(entries.values(), key=_created).dimensions
    return {key: entry for key, entry in entries.items() if entry.dimensions == dimensions}


def _note_asked(record: Record, flights: Iterable[Flight]) -> None:
    """Write down who was asked for a request that came by its vectors, or its error, without asking itself."""
    if not record.attempts:
        landed = [flight for flight in flights if flight.has_landed and flight.asked]
        record.theirs = next(
            (flight.asked for flight in landed if flight.entry is None), landed[0].asked if landed else None
        )


def _note_use(record: Record, keys: Sequence[bytes], known: Mapping[bytes, Entry]) -> None:
    if record.cache is not None:
        record.cache.hits = sum(map(known.__contains__, keys))
        record.cache.misses = len(keys) - record.cache.hits


def _gather(
    question: Question,
    keys: Sequence[bytes],
    known: Mapping[bytes, Entry],
    fresh: Mapping[bytes, Entry],
    joined: set[bytes],
) -> Embedded:
    """Put the answer in the caller's order, and write down what came from where."""
    record = question.call.record
    entries = [known.get(key) or fresh[key] for key in keys]
    vectors = [entry.vector for entry in entries]
    check_sizes(vectors)
    spent = sum([entry.tokens for key, entry in fresh.items() if key not in joined])
    remembered = sum([entry.tokens for entry in known.values()]) + sum([fresh[key].tokens for key in joined])
    record.usage = Usage(spent + remembered, 0, remembered)
    record.truncated_tokens = sum([entry.cut for entry in entries])
    if record.cache is not None:
        record.cache.joined = len(joined)
    return Embedded(vectors, record.usage, question.route.deployments[0].model)
