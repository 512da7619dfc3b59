"""From a schema's `pattern` to a rule in llama.cpp's notation, for the text between the quotes of a JSON string.

Read sign by sign: what this does not know is refused, never passed on. What must not live here: schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_PATTERN = 500
MOST_REPEATED = 1000  # rules that the native parser makes of all repetitions
DEEPEST = 32

Ranges = list[tuple[int, int]]
LAST = 0x10FFFF
_DIGITS: Ranges = [(0x30, 0x39)]
_WORDS: Ranges = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACES: Ranges = [
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
]  # fmt: skip
_LINE_ENDS: Ranges = [(0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029)]
_NOT_AS_THEY_ARE: Ranges = [(0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0xD800, 0xDFFF)]
_IN_JSON = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}
_SIGNS = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D}
_CODE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})")
_COUNT = re.compile(r"\{([0-9]{1,4})(,([0-9]{1,4})?)?\}")


class PatternError(ValueError):
    """A pattern that cannot be kept to."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a rule: `cost` is how many rules the native parser makes of it."""

    text: str
    may_be_empty: bool
    cost: int


def pattern_rule(pattern: object) -> str:
    """Return what may stand between the quotes; raises PatternError."""
    if not isinstance(pattern, str) or len(pattern) > LONGEST_PATTERN:
        raise PatternError(f"'pattern' must be text of at most {LONGEST_PATTERN} characters")
    ends = len(pattern) - len(pattern[:-1].rstrip("\\")) - 1 if pattern.endswith("$") else 1
    if not pattern.startswith("^") or ends % 2:
        raise PatternError("""'pattern' must begin with "^" and end with "$\"""")
    part = _Reader(pattern[1:-1]).read()
    return part.text


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> Part:
        part = self._alternatives(0)
        if self._at < len(self._text):
            raise self._fault()
        return part

    def _fault(self, why: str = "is not supported here") -> PatternError:
        return PatternError(f"'pattern': {self._text[self._at : self._at + 2]!r} at {self._at + 1} {why}")

    def _sees(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _takes(self, text: str) -> bool:
        if not self._sees(text):
            return False
        self._at += len(text)
        return True

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise PatternError("'pattern' ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _alternatives(self, depth: int) -> Part:
        if depth > DEEPEST:
            raise PatternError(f"'pattern' has more than {DEEPEST} brackets within each other")
        found = [self._sequence(depth)]
        while self._takes("|"):
            found.append(self._sequence(depth))
        text = " | ".join(one.text for one in found)
        return Part(text, any(one.may_be_empty for one in found), _limited(sum(one.cost for one in found)))

    def _sequence(self, depth: int) -> Part:
        parts: list[Part] = []
        while self._at < len(self._text) and not (self._sees("|") or self._sees(")")):
            parts.append(self._repeated(self._atom(depth)))
        text = " ".join(one.text for one in parts) or '""'
        return Part(text, all(one.may_be_empty for one in parts), _limited(sum(one.cost for one in parts)))

    def _atom(self, depth: int) -> Part:
        if self._takes("("):
            if self._sees("?") and not self._takes("?:"):
                raise self._fault()
            inner = self._alternatives(depth + 1)
            if not self._takes(")"):
                raise PatternError("'pattern' has a bracket that is not closed")
            return Part(f"({inner.text})", inner.may_be_empty, inner.cost)
        if self._takes("["):
            return _one_of(self._class())
        if self._takes("."):
            return _one_of(_others(_LINE_ENDS))
        if self._takes("\\"):
            return _one_of(self._escaped())
        if self._text[self._at] in "*+?{}]^$":
            raise self._fault()
        sign = ord(self._next())
        return _one_of([(sign, sign)])

    def _repeated(self, part: Part) -> Part:
        least, most = self._times()
        if (least, most) == (1, 1):
            return part
        self._takes("?")  # whether it takes little or much: the same texts
        if part.may_be_empty:
            raise PatternError("'pattern' repeats what may be empty")
        cost = _limited(part.cost * max(least, most or 1, 1))
        counts = {(0, None): "*", (1, None): "+", (0, 1): "?"}
        known = counts.get((least, most)) or f"{{{least},{'' if most is None else most}}}"
        if most == 0:
            return Part('""', may_be_empty=True, cost=1)
        return Part(part.text + known, least == 0, cost)

    def _times(self) -> tuple[int, int | None]:
        for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._takes(sign):
                return times
        if not self._sees("{"):
            return 1, 1
        found = _COUNT.match(self._text, self._at)
        if found is None:
            raise self._fault()
        self._at = found.end()
        least = int(found[1])
        most = least if found[2] is None else None if found[3] is None else int(found[3])
        if most is not None and most < least:
            raise PatternError("'pattern' has a repetition whose end is before its beginning")
        return least, most

    def _class(self) -> Ranges:
        is_negated = self._takes("^")
        found: Ranges = []
        while not self._takes("]"):
            first = self._member()
            if self._sees("-") and not self._sees("-]"):
                self._at += 1
                last = self._member()
                if not (_is_one(first) and _is_one(last) and first[0][0] <= last[0][0]):
                    raise PatternError("'pattern' has a range that is none")
                first = [(first[0][0], last[0][0])]
            found += first
        if not found:
            raise PatternError("'pattern' has a class without members")
        return _others(found) if is_negated else found

    def _member(self) -> Ranges:
        sign = self._next()
        return self._escaped() if sign == "\\" else [(ord(sign), ord(sign))]

    def _escaped(self) -> Ranges:
        code = _CODE.match(self._text, self._at)
        if code is not None:
            self._at = code.end()
            number = int(code[1] or code[2], 16)
            return [(number, number)]
        sign = self._next()
        for name, ranges in (("d", _DIGITS), ("w", _WORDS), ("s", _SPACES)):
            if sign.lower() == name:
                return ranges if sign == name else _others(ranges)
        number = _SIGNS.get(sign, ord(sign))
        if sign not in _SIGNS and (sign.isalnum() or not sign.isascii()):
            self._at -= 1
            raise self._fault("is not supported after a backslash")
        return [(number, number)]


def _limited(cost: int) -> int:
    if cost > MOST_REPEATED:
        raise PatternError(f"'pattern' repeats more than {MOST_REPEATED} times")
    return cost


def _is_one(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def _others(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return all that is not in `ranges`."""
    found: Ranges = []
    begin = 0
    for first, last in sorted(ranges):
        if first > begin:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return [*found, (begin, LAST)] if begin <= LAST else found


def _one_of(ranges: Ranges) -> Part:
    """Return the rule of one sign of `ranges`, as JSON writes it."""
    plain = _others([*_others(ranges), *_NOT_AS_THEY_ARE])
    ways = [f'"\\\\{quoted(told)}"' for sign, told in _IN_JSON.items() if any(a <= sign <= b for a, b in ranges)]
    if plain:
        ways.insert(0, f"[{''.join(_span(first, last) for first, last in plain)}]")
    if not ways:
        raise PatternError("'pattern' has a class that no text of JSON is in")
    return Part(ways[0] if len(ways) == 1 else f"({' | '.join(ways)})", may_be_empty=False, cost=1)


def _span(first: int, last: int) -> str:
    return _sign(first) if first == last else f"{_sign(first)}-{_sign(last)}"


def _sign(number: int) -> str:
    return chr(number) if chr(number).isascii() and chr(number).isalnum() else f"\\U{number:08X}"


def quoted(text: str) -> str:
    """Return `text` as it stands between the quotes of a literal."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
