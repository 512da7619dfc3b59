"""Grammars through which the ways multiply without end, found before an engine follows them.

llama.cpp keeps every way that the text so far may have taken as a stack of places, and joins two only when they are
equal. Where a rule begins twice with the same, and each time comes back to itself with something else still to follow,
each turn multiplies them, or adds to them: a few dozen signs later there can be more than any memory holds. The same is
so without coming back where enough such rules begin within each other. No search finds all of them; the rest is for
whoever watches the process. What must not live here: size, depth and repetition, which are bounded before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set

from gateway.worker.gbnf import read
from gateway.worker.gbnf_calls import Calls

MOST_LOOKS = 20_000  # at two ways beside each other, for each of the two questions: 0.1 s
MOST_LOOKS_EACH = 2000  # from one place; a rule that multiplies is seen within a hundred
DEEPEST = 12  # places of a way that is followed
MOST_DOUBLINGS = 4  # of rules within each other that do not come back; each stands for two
_LEAST_HEIGHT = 4  # of a rule for that: what is within a text or a number is soon over
MULTIPLIES = (
    "has alternatives that begin with the same and lead to themselves again, so that the ways through it multiply "
    "without end; begin each alternative in its own way, or write what they have in common once, before them."
)

Way = tuple[int, ...]  # the places where a stack goes on, the innermost first
Called = tuple[str, Way]  # a rule that begins, and the way behind it


def multiplies(grammar: str) -> bool:
    """Tell whether the ways of `grammar` were found to multiply without end."""
    search = _Search(grammar)
    return search.comes_back() or search.runs_deep()


class _Search:
    def __init__(self, grammar: str) -> None:
        self._table = read(grammar)
        self._calls = Calls(self._table)
        self._looks = self._most = 0
        self._opened: dict[Way, tuple[set[Way], set[Called]]] = {}
        self._leading: dict[int, bool] = {}
        self._beginnings: dict[str, set[Way]] = {}
        for origin, way in self._find_beginnings():
            self._beginnings.setdefault(origin, set()).add(way)

    def comes_back(self) -> bool:
        """Tell whether a rule doubles and comes back to itself."""
        self._looks = 0
        # Where one place alone is left behind there are as many ways as signs; that too takes minutes for 900 tokens.
        rings = [ring for ring, held in self._calls.rings() if held]
        return any(self._doubles(origin, ring) for ring in rings for origin in sorted(ring))

    def runs_deep(self) -> bool:
        """Tell whether too many rules that double begin within each other."""
        self._looks = 0
        doublings: dict[str, int] = {}
        high: dict[int, set[str]] = {}  # the rules by their doublings
        for name, height in self._calls.heights.items():
            most = max((doublings[one] for one in self._calls.within[name]), default=0)
            if height > _LEAST_HEIGHT:
                most += self._doubles(name, high.get(most, set()))
            if height >= _LEAST_HEIGHT:
                high.setdefault(most, set()).add(name)
            doublings[name] = most
            if most > MOST_DOUBLINGS:
                return True
        return False

    # Where two ways may part

    def _find_beginnings(self) -> Iterator[tuple[str, Way]]:
        """Yield each place from which ways may part, with its rule.

        Behind a place that may be the last of its rule comes what follows the rule.
        """
        table = self._table
        callers: dict[str, list[int]] = {}
        for place, symbol in enumerate(table.symbols):
            if isinstance(symbol, str):
                callers.setdefault(symbol, []).append(place)
        for place in [place for places in callers.values() for place in places]:
            yield table.owner[place], (place,)
            for caller in callers.get(table.owner[place], ()) if self._calls.may_end(place) else ():
                if behind := self._next(caller, ()):
                    yield table.owner[caller], (place, *behind)

    def _next(self, place: int, rest: Way) -> Way:
        """Return the way behind `place`; as in llama.cpp nothing is kept of a rule that is over."""
        return rest if self._table.symbols[place + 1] is None else (place + 1, *rest)

    def _open(self, way: Way) -> tuple[set[Way], set[Called]]:
        """Return the ways to the next signs, and the rules that begin on these ways."""
        known = self._opened.get(way)
        if known is not None:
            return known
        ends: set[Way] = set()
        called: set[Called] = set()
        seen, waiting = {way}, [way]
        while waiting and self._looks < self._most:
            one = waiting.pop()
            symbol = self._table.symbols[one[0]] if 0 < len(one) <= DEEPEST else None
            if isinstance(symbol, tuple):
                ends.add(one)
            elif symbol is not None:
                behind = self._next(one[0], one[1:])
                called.add((symbol, behind))
                starts = set(self._starts(symbol, behind)) - seen
                self._looks += len(starts)
                seen |= starts
                waiting += starts
        self._opened[way] = ends, called
        return ends, called

    def _starts(self, name: str, behind: Way) -> Iterator[Way]:
        for start in self._table.ways.get(name, ()):
            yield behind if self._table.symbols[start] is None else (start, *behind)

    # Two ways beside each other

    def _doubles(self, origin: str, back: Set[str]) -> bool:
        """Tell whether two ways from a place in `origin` read the same and come to a rule of `back`, parted."""
        self._leading = {}
        return any(self._part(way, back) for way in sorted(self._beginnings.get(origin, ())))

    def _part(self, way: Way, back: Set[str]) -> bool:
        self._most = min(self._looks + MOST_LOOKS_EACH, MOST_LOOKS)
        seen: set[tuple[Way, Way]] = set()
        waiting = deque([(way, way)])
        while waiting and self._looks < self._most:
            one, other = waiting.popleft()
            shared = list(self._shared(one, other))
            if any(rule in back for rule, _, _ in shared):
                return True
            for pair in [*((first, second) for _, first, second in shared), *self._on(one, other, back)]:
                if pair not in seen and self._leads(pair[0], back) and self._leads(pair[1], back):
                    seen.add(pair)
                    waiting.append(pair)
        return False

    def _shared(self, one: Way, other: Way) -> Iterator[tuple[str, Way, Way]]:
        """Yield the rules that begin on both ways, each with what is behind it on the one and on the other."""
        behind: dict[str, list[Way]] = {}
        for rule, way in self._open(other)[1]:
            behind.setdefault(rule, []).append(way)
        for rule, first in self._open(one)[1]:
            for second in behind.get(rule, ()):
                self._looks += 1
                if self._looks > self._most:
                    return
                if first != second:
                    yield rule, first, second

    def _on(self, one: Way, other: Way, back: Set[str]) -> Iterator[tuple[Way, Way]]:
        """Yield the ways behind each sign that both may read."""
        seconds = [way for way in self._open(other)[0] if self._leads(way, back)]
        firsts = seconds if one == other else [way for way in self._open(one)[0] if self._leads(way, back)]
        for first in firsts:
            for second in seconds:
                self._looks += 1
                if self._looks > self._most:
                    return
                if first != second and self._overlap(first[0], second[0]):
                    yield self._next(first[0], first[1:]), self._next(second[0], second[1:])

    def _leads(self, way: Way, back: Set[str]) -> bool:
        return any(self._leads_from(place, back) for place in way)

    def _leads_from(self, place: int, back: Set[str]) -> bool:
        passed: list[int] = []
        known = self._leading.get(place)
        while known is None:
            passed.append(place)
            symbol = self._table.symbols[place]
            place += 1
            known = self._leading.get(place) if symbol is not None and symbol not in back else symbol is not None
        self._leading.update(dict.fromkeys(passed, known))
        return known

    def _overlap(self, one: int, other: int) -> bool:
        signs, others = self._table.symbols[one], self._table.symbols[other]
        if not isinstance(signs, tuple) or not isinstance(others, tuple):
            return False
        self._looks += (len(signs) + len(others)) // 8
        place = 0
        for first, last in signs:
            while place < len(others) and others[place][1] < first:
                place += 1
            if place < len(others) and others[place][0] <= last:
                return True
        return False
