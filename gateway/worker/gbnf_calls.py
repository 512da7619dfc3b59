"""Which rules of a grammar begin within which, which come back to themselves, and which may be empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from gateway.worker.gbnf import Symbol, Table


class Calls:
    """`within[name]` are the rules that begin within a rule. `heights` are those that do not come back to themselves,
    nor hold one that does, in an order in which each follows all within it; the height is how many are within each other.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.within = {name: self._found_in(name) for name in table.ways}
        self.heights: dict[str, int] = {}
        for name in _ends_first(self.within):
            self.heights[name] = 1 + max((self.heights[one] for one in self.within[name]), default=-1)
        self._ends = self._find_ends()

    def rings(self) -> list[tuple[Set[str], int]]:
        """Return the sets of rules that come back to each other.

        Each with how many of its places are kept on a stack while it goes on within the ring.
        """
        rings = list(self._rings())
        ring_of = {name: number for number, ring in enumerate(rings) for name in ring}
        held = [0] * len(rings)
        for place, symbol in enumerate(self._table.symbols):
            ring = ring_of.get(self._table.owner[place])
            if isinstance(symbol, str) and ring is not None and ring == ring_of.get(symbol):
                held[ring] += self._table.symbols[place + 1] is not None
        return list(zip(rings, held, strict=True))

    def _rings(self) -> Iterator[Set[str]]:
        left = self.within.keys() - self.heights.keys()
        inner = {name: self.within[name] & left for name in left}
        outer = _turned(inner)
        for name in reversed(_last_first(inner)):
            if name in left:
                ring = _reached(outer, name, left)
                left -= ring
                if len(ring) > 1 or name in inner[name]:
                    yield ring

    def symbols(self, place: int) -> Iterator[Symbol]:
        """Yield what stands at `place` and behind it to the end of the alternative."""
        while (symbol := self._table.symbols[place]) is not None:
            yield symbol
            place += 1

    def may_end(self, place: int) -> bool:
        """Tell whether all from `place` on may be empty."""
        return place in self._ends

    def _found_in(self, name: str) -> set[str]:
        found: set[str] = set()
        for start in self._table.ways[name]:
            found.update(one for one in self.symbols(start) if isinstance(one, str) and one in self._table.ways)
        return found

    def _find_ends(self) -> set[int]:
        """Return the places from which on all may be empty."""
        table = self._table
        calling: dict[str, list[int]] = {}
        for place, symbol in enumerate(table.symbols):
            if isinstance(symbol, str):
                calling.setdefault(symbol, []).append(place)
        starts = {start for starts in table.ways.values() for start in starts}
        ends: set[int] = set()
        empty: set[str] = set()
        waiting = [place for place, symbol in enumerate(table.symbols) if symbol is None]
        while waiting:
            place = waiting.pop()
            ends.add(place)
            before = place - 1
            if place not in starts and table.symbols[before] in empty:
                waiting.append(before)
            if place in starts and table.owner[place] not in empty:
                empty.add(table.owner[place])
                waiting += [one for one in calling.get(table.owner[place], ()) if one + 1 in ends]
        return ends


def _ends_first(within: Mapping[str, Set[str]]) -> Iterator[str]:
    """Yield each name all of whose inner names were yielded before."""
    outer = _turned(within)
    missing = {name: len(inner) for name, inner in within.items()}
    waiting = [name for name, count in missing.items() if not count]
    while waiting:
        name = waiting.pop()
        yield name
        for one in outer[name]:
            missing[one] -= 1
            if not missing[one]:
                waiting.append(one)


def _turned(within: Mapping[str, Set[str]]) -> dict[str, set[str]]:
    outer: dict[str, set[str]] = {name: set() for name in within}
    for name, inner in within.items():
        for one in inner:
            outer[one].add(name)
    return outer


def _last_first(within: Mapping[str, Set[str]]) -> list[str]:
    """Return the names in the order in which a walk down from each is over."""
    found: list[str] = []
    seen: set[str] = set()
    for first in sorted(within):
        waiting = [] if first in seen else [(first, iter(within[first]))]
        seen.add(first)
        while waiting:
            name, rest = waiting[-1]
            one = next((one for one in rest if one not in seen), None)
            if one is None:
                found.append(name)
                waiting.pop()
            else:
                seen.add(one)
                waiting.append((one, iter(within[one])))
    return found


def _reached(within: Mapping[str, Set[str]], name: str, among: Set[str]) -> set[str]:
    """Return `name` and those of `among` that are reached from it."""
    found = {name}
    waiting = [name]
    while waiting:
        more = (within[waiting.pop()] & among) - found
        found |= more
        waiting += more
    return found
