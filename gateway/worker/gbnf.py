"""A grammar in llama.cpp's notation as a table of rules, cut into places as llama.cpp cuts it: a way through it is a row of them.

Reads what the native parser takes; of what it does not take, nothing is to be learned here. What must not live here:
what a grammar is good for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Range = tuple[int, int]
Symbol = (
    tuple[Range, ...] | str | None
)  # signs of which one stands here in their order, the name of a rule, or the end of an alternative
MOST_COPIES = 2  # of what is repeated more often than this; then it may come again and again
LAST = 0x10FFFF
_TOKENS = LAST + 1  # where tokens that are named begin

_TOKEN = re.compile(
    r"""\#[^\n]*|\s+|(?P<rule>[\w-]+)\s*::=|(?P<name>[\w-]+)|"(?P<text>(?:\\.|[^"\\])*)"|\[(?P<signs>(?:\\.|[^\]\\])*)\]
    |(?P<token>!?<[^>\n]*>)|(?P<any>\.)|(?P<open>\()|(?P<close>\))|(?P<or>\|)|(?P<times>[*+?]|\{[^}\n]*\})""",
    re.DOTALL | re.VERBOSE,
)
_SIGN = re.compile(
    r"\\x(?P<x>[0-9a-fA-F]{2})|\\u(?P<u>[0-9a-fA-F]{4})|\\U(?P<U>[0-9a-fA-F]{8})|\\(?P<e>.)|(?P<s>.)", re.DOTALL
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_COUNT = re.compile(r"\d+")


class Table:
    """The rules of a grammar: `ways[name]` are the places where its alternatives begin, `symbols[place]` what stands there."""

    def __init__(self) -> None:
        self.symbols: list[Symbol] = []
        self.ways: dict[str, list[int]] = {}
        self.owner: list[str] = []

    def add(self, name: str, alternatives: list[list[Symbol]]) -> None:
        starts = self.ways.setdefault(name, [])
        for alternative in alternatives:
            starts.append(len(self.symbols))
            self.symbols += [*alternative, None]
            self.owner += [name] * (len(alternative) + 1)


def read(grammar: str) -> Table:
    """Return the rules of `grammar`."""
    reader = _Reader()
    for found in _TOKEN.finditer(grammar):
        if found.lastgroup is not None:
            reader.take(found.lastgroup, found[found.lastgroup])
    reader.end()
    return reader.table


class _Reader:
    def __init__(self) -> None:
        self.table = Table()
        self._rule = ""
        self._open: list[list[list[Symbol]]] = [[[]]]
        self._last = 0  # where the last thing begins, in the alternative that is read
        self._made = 0

    def take(self, kind: str, text: str) -> None:
        if kind == "rule":
            self.end()
            self._rule = text
        elif kind == "open":
            self._open.append([[]])
        elif kind == "close":
            self._close()
        elif kind == "or":
            self._open[-1].append([])
        elif kind == "times":
            self._repeat(text)
        else:
            self._put(_thing(kind, text))

    def end(self) -> None:
        """Put the rule that was read into the table."""
        while len(self._open) > 1:
            self._close()
        if self._rule:
            self.table.add(self._rule, self._open[0])
        self._open, self._rule = [[[]]], ""

    def _put(self, symbols: list[Symbol]) -> None:
        sequence = self._open[-1][-1]
        self._last = len(sequence)
        sequence += symbols

    def _close(self) -> None:
        if len(self._open) > 1:
            self._put([self._new(self._open.pop())])

    def _new(self, alternatives: list[list[Symbol]]) -> str:
        self._made += 1
        name = f"({self._made}"
        self.table.add(name, alternatives)
        return name

    def _repeat(self, text: str) -> None:
        sequence = self._open[-1][-1]
        thing = sequence[self._last :]
        del sequence[self._last :]
        least, most = _counts(text)
        sequence += thing * min(least, MOST_COPIES)
        if most is None or most > MOST_COPIES:
            name = self._new([])
            self.table.add(name, [[*thing, name], []])
            sequence.append(name)
        elif most > least:
            inner: list[Symbol] = []
            for _ in range(most - least):
                inner = [self._new([[*thing, *inner], []])]
            sequence += inner


def _counts(text: str) -> tuple[int, int | None]:
    if text in "*+?":
        return int(text == "+"), 1 if text == "?" else None
    counts = [int(count[:6]) for count in _COUNT.findall(text)] or [0]
    return counts[0], counts[-1] if len(counts) > 1 or "," not in text else None


def _thing(kind: str, text: str) -> list[Symbol]:
    if kind == "name":
        return [text]
    if kind == "text":
        return [((sign, sign),) for sign in _signs(text)]
    if kind == "any":
        return [((0, LAST),)]
    if kind == "token":
        place = _TOKENS + hash(text) % _TOKENS
        return [((_TOKENS, 2 * _TOKENS),) if text.startswith("!") else ((place, place),)]
    is_negated = text.startswith("^")
    ranges = _ranges(text.removeprefix("^"))
    return [_others(ranges) if is_negated else _others(_others(ranges))]


def _ranges(text: str) -> list[Range]:
    found = list(_SIGN.finditer(text))
    signs = [_sign(one) for one in found]
    ranges: list[Range] = []
    place = 0
    while place < len(signs):
        is_range = place + 2 < len(signs) and found[place + 1][0] == "-"
        last = signs[place + 2] if is_range else signs[place]
        ranges.append((signs[place], last))
        place += 3 if is_range else 1
    return ranges


def _others(ranges: Sequence[Range]) -> tuple[Range, ...]:
    found: list[Range] = []
    begin = 0
    for first, last in sorted(ranges):
        if first > begin:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*found, (begin, LAST)) if begin <= LAST else tuple(found)


def _signs(text: str) -> Iterator[int]:
    return map(_sign, _SIGN.finditer(text))


def _sign(found: re.Match[str]) -> int:
    code = found["x"] or found["u"] or found["U"]
    if code:
        return int(code, 16)
    sign = found["s"] or _ESCAPED.get(found["e"], found["e"])
    return ord(sign)
