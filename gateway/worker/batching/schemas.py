"""From a JSON schema to a grammar in llama.cpp's notation.

The grammar permits only what the schema permits, now and then less: properties in their order, texts without needless
escapes. What it cannot be held to is refused by name. What must not live here: the native parser, which has the last word.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.worker.batching.patterns import PatternError, pattern_rule
from gateway.worker.batching.schema_merging import Schema, SchemaError, merged, unkept
from gateway.worker.batching.schema_values import (
    kinds_of,
    literal,
    members_of,
    refuse_unkept,
    values_of,
)

LONGEST_GRAMMAR = 1 << 18  # characters
MOST_READ = 1 << 22  # characters of schemas, each counted as often as it is met
DEEPEST = 64  # schemas within each other
MOST_REPETITIONS = 1000
MOST_IN_ALL = 20_000

_PRIMITIVES = r"""
space ::= " "?
char ::= [^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] hex hex hex | [dD] [0-7] hex hex))
hex ::= [0-9a-fA-F]
string ::= "\"" char* "\"" space
integral ::= "0" | [1-9] [0-9]{0,15}
integer ::= "-"? integral space
number ::= "-"? integral ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})? space
boolean ::= ("true" | "false") space
null ::= "null" space
value ::= object | array | string | number | boolean | null
object ::= "{" space (string ":" space value ("," space string ":" space value)*)? "}" space
array ::= "[" space (value ("," space value)*)? "]" space
plain ::= [^"\\\x00-\x1F\x7F]
day ::= [0-9]{4} "-" (("0" [13578] | "1" [02]) "-" (days | "3" [01]) | ("0" [469] | "11") "-" (days | "30") | "02-" days)
days ::= "0" [1-9] | [12] [0-9]
minute ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]
time ::= minute ("." [0-9]{3})? ("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])
""".strip()
_FORMATS = {
    "date": "day",
    "time": "time",
    "date-time": 'day "T" time',
    "uuid": 'hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
}


def schema_grammar(schema: Any) -> str:
    """Return the grammar of the values of a schema; raises SchemaError."""
    rules = Rules()
    return rules.grammar(rules.of({"type": "object"} if schema == {} else schema, schema))


def calls_grammar(functions: Iterable[Mapping[str, Any]]) -> str:
    """Return the grammar of a call of one of `functions`, of which each has a `name` and `parameters`."""
    rules = Rules()
    calls = []
    for function in functions:
        parameters = function.get("parameters") or {"type": "object"}
        name = literal(function["name"])
        rule = rules.of(parameters, parameters)
        calls.append(
            f'"{{" space {literal("name")} space ":" space {name} space "," space '
            f'{literal("arguments")} space ":" space {rule} "}}" space'
        )
    return rules.grammar(" | ".join(calls))


class Rules:
    """The rules of one grammar: each schema is one, however often it is met, so a schema may hold itself."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, str], str] = {}
        self._waiting: deque[tuple[str, Any, Any, int]] = deque()
        self._lines: list[str] = []
        self._document: Any = None
        self._depth = 0
        self._read = 0
        self._length = 0
        self._repeated = 0
        self._parts = 0

    def of(self, schema: Any, document: Any) -> str:
        """Return the name of the rule of `schema`, whose references lead into `document`."""
        text = self._text(schema)
        if self._depth > DEEPEST:
            raise SchemaError(f"more than {DEEPEST} schemas within each other")
        key = (id(document), text)
        if key not in self._names:
            self._names[key] = f"r{len(self._names)}"
            self._waiting.append((self._names[key], schema, document, self._depth))
        return self._names[key]

    def grammar(self, root: str) -> str:
        """Return the whole grammar, whose answers are `root`."""
        while self._waiting:
            name, schema, self._document, depth = self._waiting.popleft()
            self._depth = depth + 1
            whole = merged(schema, self._document)
            self._text(whole)
            self._add(name, self._body(whole))
        return "\n".join([f"root ::= {root}", *self._lines, _PRIMITIVES])

    def _text(self, schema: Any) -> str:
        text = json.dumps(schema, allow_nan=False)
        self._read += len(text)
        if self._read > MOST_READ:
            raise SchemaError("it has too many parts")
        return text

    def _add(self, name: str, body: str) -> str:
        self._lines.append(f"{name} ::= {body}")
        self._length += len(self._lines[-1])
        if self._length > LONGEST_GRAMMAR:
            raise SchemaError("it has too many parts")
        return name

    def _part(self, body: str) -> str:
        """Return the name of a new rule."""
        self._parts += 1
        return self._add(f"p{self._parts}", body)

    def _inner(self, schema: Any) -> str:
        return self.of(schema, self._document)

    def _body(self, schema: Schema) -> str:
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._one_of(schema, keyword)
        if "const" in schema or "enum" in schema:
            return " | ".join(f"{literal(value)} space" for value in values_of(schema))
        kinds = kinds_of(schema)
        if len(kinds) > 1:
            return " | ".join(self._inner({**schema, "type": kind}) for kind in kinds)
        if not kinds:
            return "value"
        refuse_unkept(schema, kinds[0])
        made = {"object": self._object, "array": self._array, "string": self._string}.get(kinds[0])
        return made(schema) if made is not None else kinds[0]

    def _one_of(self, schema: Schema, keyword: str) -> str:
        alternatives = schema.pop(keyword)
        if "anyOf" in schema or "oneOf" in schema:
            raise unkept("oneOf' beside 'anyOf")
        if not isinstance(alternatives, list) or not alternatives:
            raise SchemaError(f"'{keyword}' must be an array that is not empty")
        return " | ".join(self._inner({**schema, "allOf": [one]} if schema else one) for one in alternatives)

    # Objects

    def _object(self, schema: Schema) -> str:
        properties, required, more = members_of(schema)
        if not properties and not required and more is True:
            return "object"
        missing = [name for name in required if name not in properties]
        if missing and more is False:
            raise SchemaError(f"'{missing[0]}' is required, and not permitted")
        properties = properties | dict.fromkeys(missing, more)
        pairs = {
            name: f'{literal(name)} space ":" space {self._inner(one)}'
            for name, one in properties.items()
            if one is not False or name in required
        }
        first = [pair for name, pair in pairs.items() if name in required]
        others = [pair for name, pair in pairs.items() if name not in required]
        return f'"{{" space {self._listed(first, others, self._further(properties, more))}"}}" space'

    def _listed(self, first: list[str], others: list[str], further: str) -> str:
        """Return the rule of all `first`, then any of `others` in their order, then any number of `further`."""
        rest = f'("," space {further})*' if further else ""
        rests = [rest]
        for pair in reversed(others):
            rests.insert(0, self._part(f'("," space {pair})? {rests[0]}'))
        if first:
            return " ".join([' "," space '.join(first), rests[0], ""])
        ways = [f"{pair} {after}" for pair, after in zip(others, rests[1:], strict=True)]
        ways += [f"{further} {rest}"] if further else []
        return f"({' | '.join(ways)})? " if ways else ""

    def _further(self, properties: Mapping[str, Any], more: Any) -> str:
        """Return the rule of a property that has no schema of its own, "" where there may be none."""
        if more is False:
            return ""
        # A further name is written without escapes, so it is none of those that cannot do without.
        taken = [name for name in properties if literal(name) == f'"\\"{name}\\""']
        name = self._part(self._other_than(taken, ""))
        return f'"\\"" {name} "\\"" space ":" space {self._inner(more)}'

    def _other_than(self, names: list[str], begun: str) -> str:
        """Return the rule of how a text goes on after `begun` so that it is none of `names`."""
        self._read += sum(map(len, names)) + 1
        if self._read > MOST_READ or len(begun) > MOST_REPETITIONS:
            raise SchemaError("it has too many parts")
        going = [name for name in names if name.startswith(begun) and name != begun]
        if not going:
            return "plain+" if begun in names else "plain*"
        signs = sorted({name[len(begun)] for name in going})
        forbidden = "".join(f"\\U{ord(sign):08X}" for sign in signs)
        ways = [rf"""[^"\\\x00-\x1F\x7F{forbidden}] plain*"""]
        for sign in signs:
            inner = self._other_than([name for name in going if name[len(begun)] == sign], begun + sign)
            ways.append(f"[\\U{ord(sign):08X}] {self._part(inner)}")
        return " | ".join(ways if begun in names else [*ways, '""'])

    # Arrays and texts

    def _array(self, schema: Schema) -> str:
        least, most = self._counts(schema, "minItems", "maxItems")
        items = schema.get("items", True)
        firsts = schema.get("prefixItems", items if isinstance(items, list) else [])
        if not isinstance(firsts, list):
            raise SchemaError("'prefixItems' must be an array")
        if firsts:
            if least > len(firsts) or (most is not None and most < len(firsts)):
                raise unkept("minItems' or 'maxItems' beside 'prefixItems")
            listed = ' "," space '.join(self._inner(one) for one in firsts)
            return f'"[" space {listed} "]" space'
        if items is False or items == [] or most == 0:
            if least:
                raise SchemaError("a schema permits no value")
            return '"[" space "]" space'
        item = self._inner(items)
        further = f'("," space {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        listed = f"{item} {further}" if most != 1 else item
        return f'"[" space {listed if least else f"({listed})?"} "]" space'

    def _string(self, schema: Schema) -> str:
        kept = [name for name in ("pattern", "format") if name in schema]
        least, most = self._counts(schema, "minLength", "maxLength")
        if len(kept) > 1 or (kept and (least or most is not None)):
            raise unkept(f"{kept[0]}' beside another restriction of a text, such as 'maxLength")
        if "pattern" in schema:
            try:
                return f'"\\"" ({pattern_rule(schema["pattern"])}) "\\"" space'
            except PatternError as error:
                raise SchemaError(str(error)) from error
        if "format" in schema:
            return f'"\\"" {_FORMATS[schema["format"].rstrip("12345")]} "\\"" space'
        if not least and most is None:
            return "string"
        chars = f"char{{{least},{'' if most is None else most}}} " if most != 0 else ""
        return f'"\\"" {chars}"\\"" space'

    def _counts(self, schema: Schema, at_least: str, at_most: str) -> tuple[int, int | None]:
        least, most = schema.get(at_least, 0), schema.get(at_most)
        for name, count in ((at_least, least), (at_most, 0 if most is None else most)):
            if type(count) is not int or not 0 <= count <= MOST_REPETITIONS:
                raise SchemaError(f"'{name}' must be a number from 0 to {MOST_REPETITIONS}")
        if most is not None and most < least:
            raise SchemaError(f"'{at_most}' is less than '{at_least}'")
        self._repeated += max(least, most or 0)
        if self._repeated > MOST_IN_ALL:
            raise SchemaError(f"all '{at_least}' and '{at_most}' together are more than {MOST_IN_ALL}")
        return least, most
