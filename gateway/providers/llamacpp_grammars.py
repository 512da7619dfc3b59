"""Grammars and patterns that would hang or end a model's process, refused before they reach it.

llama.cpp follows every way through a grammar at each token, and goes down a level of its stack with each bracket. Size,
depth, repetition and the ways at one place are bounded here: of things in a row that may all be left out, 300 take more
than seconds for a token. A grammar that is ambiguous all the same is for whoever watches the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.errors import InvalidRequest
from gateway.wire import dump

LARGEST_GRAMMAR = 1 << 16  # characters, of a schema too
LARGEST_PATTERN = 500
DEEPEST = 64  # brackets or schemas within each other
MOST_REPETITIONS = 10_000  # of one grammar or pattern, all together
MOST_WAYS = 1000  # to go on at one place; values and alternatives of a schema, 0.1 s for a token
MOST_OPTIONAL = 500  # properties that may be left out, 0.3 s; of twice as many the grammar takes ten times as long
MOST_SKIPS = 32  # things in a row that may be left out
_MOST_ROUNDS = 16  # over all rules, until it is known how each may begin

# What neither needs: comments and spaces. Then what a thing is that can be repeated.
_GBNF = re.compile(
    r"""\#[^\n]*|\s+|(?P<rule>[\w-]+)\s*::=|(?P<nothing>"")|(?P<name>[\w-]+)
    |(?P<thing>"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|!?<[^>\n]*>|\.)
    |(?P<open>\()|(?P<close>\))|(?P<or>\|)|(?P<times>[*+?]|\{[^}\n]*\})|.""",
    re.DOTALL | re.VERBOSE,
)
_PATTERN = re.compile(
    r"""(?P<thing>\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?[:=!]|\?<[^>]*>)?)|(?P<close>\))|(?P<or>\|)
    |(?P<times>[*+?]\??|\{\d*,?\d*\}\??)|(?P<nothing>[\^$])|(?P<character>.)""",
    re.DOTALL | re.VERBOSE,
)
_COUNT = re.compile(r"\d+")


class Fault(Exception):
    """What is wrong, in words that follow the name of the field."""


def check_forms(body: Mapping[str, Any]) -> None:
    """Raise InvalidRequest, its `param` naming the field, unless the model survives what `body` says of its answer's form."""
    for name, check in (
        ("grammar", _check_grammar),
        ("json_schema", _check_schema),
        ("response_format", _check_schema),
        ("tools", _check_tools),
    ):
        if body.get(name) is None:
            continue
        try:
            check(body[name])
        except Fault as fault:
            raise InvalidRequest(f"'{name}' {fault}", param=name, code="invalid_value") from fault


def _check_tools(tools: Any) -> None:
    for tool in tools if isinstance(tools, list) else ():
        _check_schema(tool)


def _check_schema(schema: Any) -> None:
    if len(dump(schema)) > LARGEST_GRAMMAR:
        raise Fault(f"has a schema of more than {LARGEST_GRAMMAR} characters.")
    size = _Size()
    for part in _parts_of(schema):
        size.add(part)
        pattern = part.get("pattern")
        if not isinstance(pattern, str):
            continue
        if len(pattern) > LARGEST_PATTERN:
            raise Fault(f"has a pattern of more than {LARGEST_PATTERN} characters.")
        reading = _Reading({})
        for found in _PATTERN.finditer(pattern):
            reading.read(found.lastgroup or "", found.group())


class _Size:
    """How many values, alternatives and optional properties a schema has; properties count more in company."""

    def __init__(self) -> None:
        self._ways = self._optional = self._squares = 0
        self._joins = False

    def add(self, part: Mapping[str, Any]) -> None:
        """Take one more schema within the whole; raises Fault."""
        self._ways += sum(len(part[name]) for name in ("enum", "anyOf", "oneOf") if isinstance(part.get(name), list))
        if self._ways > MOST_WAYS:
            raise Fault(f"has more than {MOST_WAYS} values and alternatives, all together.")
        properties, required = part.get("properties"), part.get("required")
        self._joins = self._joins or "allOf" in part
        if isinstance(properties, dict):
            named = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
            optional = len(properties.keys() - named)
            self._optional += optional
            self._squares += optional**2
        if (self._optional**2 if self._joins else self._squares) > MOST_OPTIONAL**2:
            raise Fault(
                f"has more than {MOST_OPTIONAL} properties that are not required in one object, or too many in all."
            )


def _parts_of(schema: Any) -> Iterator[Mapping[str, Any]]:
    level, depth = [schema], 0
    while level:
        if depth > 2 * DEEPEST:  # a schema within another is two levels of JSON
            raise Fault(f"has more than {DEEPEST} schemas within each other.")
        depth += 1
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
                yield value
            elif isinstance(value, list):
                if len(value) > MOST_WAYS:
                    raise Fault(f"has a list of more than {MOST_WAYS} values.")
                inner += value
        level = inner


def _check_grammar(grammar: Any) -> None:
    if not isinstance(grammar, str) or len(grammar) > LARGEST_GRAMMAR or "\0" in grammar:
        raise Fault(f"must be text of at most {LARGEST_GRAMMAR} characters.")
    if grammar.lstrip().startswith("%"):  # of other notations nothing is bounded here
        raise Fault("must be in llama.cpp's own notation (GBNF).")
    rules: list[list[tuple[str, str]]] = [[]]
    for found in _GBNF.finditer(grammar):
        kind = found.lastgroup or ""
        if kind == "rule":
            rules.append([])
        rules[-1].append((kind, found.group(kind or 0)))
    known: dict[str, _Thing] = {}
    for _ in range(_MOST_ROUNDS):
        before = dict(known)
        _read_all(rules, known)
        if known == before:
            return
    raise Fault("has rules that depend on each other in too many steps.")


def _read_all(rules: Sequence[Sequence[tuple[str, str]]], known: dict[str, _Thing]) -> None:
    """Learn once more how each rule may begin, those first that most grammars end with: the others need them."""
    repetitions = 0
    for rule in reversed(rules):
        reading = _Reading(known)
        reading.repetitions = repetitions
        for kind, text in rule:
            reading.read(kind, text)
        reading.end()
        repetitions = reading.repetitions


class _Thing(NamedTuple):
    """What may be repeated: whether it may be left out, how many ways it can begin, and how many things in it are left out then."""

    empty: bool = False
    ways: int = 0
    skips: int = 0


_NOTHING = _Thing(empty=True)
_CHARACTER = _Thing(ways=1)


class _Sequence:
    """A bracket or rule as far as it was read."""

    def __init__(self) -> None:
        self._over = _Thing()  # all ways that were read to their ends
        self._begin()

    def _begin(self) -> None:
        self.last = _NOTHING
        self._is_first = True  # all before the last thing may be left out
        self._first = self._row = _Thing()

    def add(self, thing: _Thing) -> None:
        """Take the next thing; raises Fault."""
        self._is_first = self._is_first and self.last.empty
        self._row = self._row if self.last.empty else _Thing()
        self.last = thing
        self._count(thing.ways, thing.skips)

    def leave_out(self) -> None:
        """Have the last thing be one that may be left out; raises Fault."""
        self.last = self.last._replace(empty=True, skips=self.last.skips + 1)
        self._count(0, 1)

    def end_way(self) -> _Thing:
        """Return what this is with all ways up to here."""
        over, first = self._over, self._first
        empty = over.empty or (self._is_first and self.last.empty)
        self._over = _Thing(empty, over.ways + first.ways, over.skips + first.skips)
        _bound(self._over)
        self._begin()
        return self._over

    def _count(self, ways: int, skips: int) -> None:
        self._row = _Thing(ways=self._row.ways + ways, skips=self._row.skips + skips)
        _bound(self._row)
        if self._is_first:
            self._first = _Thing(ways=self._first.ways + ways, skips=self._first.skips + skips)


def _bound(thing: _Thing) -> None:
    if thing.ways > MOST_WAYS:
        raise Fault(f"has more than {MOST_WAYS} ways to go on at one place.")
    if thing.skips > MOST_SKIPS:
        raise Fault(f"has more than {MOST_SKIPS} things in a row that may be left out.")


class _Reading:
    """Reads one rule or pattern; `known` are the rules that it may name, of which it becomes one."""

    def __init__(self, known: dict[str, _Thing]) -> None:
        self._known = known
        self._rule = ""
        self._open = [_Sequence()]
        self.repetitions = 0

    def read(self, kind: str, text: str) -> None:
        """Take the next token; raises Fault."""
        last = self._open[-1]
        if kind == "rule":
            self._rule = text
        elif kind == "open":
            self._descend()
        elif kind == "close":
            self._ascend()
        elif kind == "or":
            last.end_way()
        elif kind == "times":
            self._repeat(last, text)
        elif kind == "name":
            last.add(self._known.get(text, _Thing()))
        elif kind:
            last.add(_NOTHING if kind == "nothing" else _CHARACTER)

    def end(self) -> None:
        """Note what the rule is, all of it being read."""
        if self._rule:
            self._known[self._rule] = self._open[0].end_way()

    def _descend(self) -> None:
        if len(self._open) > DEEPEST:
            raise Fault(f"has more than {DEEPEST} brackets within each other.")
        self._open.append(_Sequence())

    def _ascend(self) -> None:
        if len(self._open) > 1:  # what does not fit together is refused by the model itself
            inner = self._open.pop()
            self._open[-1].add(inner.end_way())

    def _repeat(self, last: _Sequence, text: str) -> None:
        counts = [int(count[:9]) for count in _COUNT.findall(text)]
        is_many = text[0] in "*+" or max(counts, default=1) > 1 or text.rstrip("?").endswith(",}")
        if is_many and last.last.empty:
            raise Fault("repeats something that may be empty, which would not come to an end.")
        self.repetitions += max(counts, default=0)
        if self.repetitions > MOST_REPETITIONS:
            raise Fault(f"has more than {MOST_REPETITIONS} repetitions.")
        if text[0] in "*?" or (counts and counts[0] == 0):
            last.leave_out()
