"""A schema becomes a grammar that permits only what the schema permits, or it is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.worker.batching.grammar import calls_to_grammar, grammar_of
from gateway.worker.batching.refusals import Refusal

# A reader of llama.cpp's notation, as far as schemas use it

TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[a-z][a-z0-9]*|[()|*+?]|\{[0-9,]+\}')
SIGN = re.compile(r"\\x(..)|\\U(.{8})|\\(.)|(.)", re.DOTALL)
COUNTS = {"*": (0, 999), "+": (1, 999), "?": (0, 1)}


def signs(text: str) -> list[str]:
    return [
        chr(int(one or two, 16)) if one or two else {"n": "\n", "r": "\r"}.get(three, three) if three else "-" if four == "-" else four
        for one, two, three, four in SIGN.findall(text)
    ]  # fmt: skip


class Grammar:
    def __init__(self, text: str) -> None:
        self.rules: dict[str, Any] = {}
        for line in text.splitlines():
            name, body = line.split(" ::= ", 1)
            assert name not in self.rules, f"{name} is there twice"
            assert not TOKEN.sub("", body).strip(), f"not understood: {body}"
            self.tokens = TOKEN.findall(body)
            self.rules[name] = self.alternatives()
            assert not self.tokens

    def alternatives(self) -> Any:
        found = [self.sequence()]
        while self.tokens[:1] == ["|"]:
            self.tokens.pop(0)
            found.append(self.sequence())
        return ("any", found)

    def sequence(self) -> Any:
        found: list[Any] = []
        while self.tokens and self.tokens[0] not in "|)":
            token = self.tokens.pop(0)
            if token in COUNTS:
                found[-1] = ("times", found[-1], *COUNTS[token])
            elif token[0] == "{":
                least, _, most = token[1:-1].partition(",")
                last = int(most) if most else 999 if "," in token else int(least)
                found[-1] = ("times", found[-1], int(least), last)
            elif token == "(":
                found.append(self.alternatives())
                assert self.tokens.pop(0) == ")"
            elif token[0] in '"[':
                found.append(("literal" if token[0] == '"' else "class", token[1:-1]))
            else:
                found.append(("rule", token))
        return ("all", found)

    def ends(self, node: Any, text: str, at: int) -> set[int]:
        kind, value = node[0], node[1]
        if kind == "rule":
            return self.ends(self.rules[value], text, at)
        if kind == "any":
            return {end for one in value for end in self.ends(one, text, at)}
        if kind == "all":
            ends = {at}
            for one in value:
                ends = {end for begin in ends for end in self.ends(one, text, begin)}
            return ends
        if kind == "literal":
            told = "".join(signs(value))
            return {at + len(told)} if text.startswith(told, at) else set()
        if kind == "class":
            return {at + 1} if at < len(text) and is_in(text[at], value) else set()
        return self.repeated(node, text, at)

    def repeated(self, node: Any, text: str, at: int) -> set[int]:
        _, inner, least, most = node
        reached, found = {at}, {at} if least == 0 else set()
        for times in range(1, most + 1):
            reached = {end for begin in reached for end in self.ends(inner, text, begin)} - (
                found if times > least else set()
            )
            if not reached:
                break
            found |= reached if times >= least else set()
        return found

    def permits(self, text: str) -> bool:
        return len(text) in self.ends(("rule", "root"), text, 0)


def is_in(sign: str, told: str) -> bool:
    is_negated = told.startswith("^")
    spans = re.findall(r"(\\x..|\\U.{8}|\\.|[^\\])(?:-(\\x..|\\U.{8}|\\.|[^\\]))?", told[is_negated:])
    found = any(signs(first)[0] <= sign <= signs(last or first)[0] for first, last in spans)
    return found != is_negated


def grammar(schema: Any) -> Grammar:
    text = grammar_of({"json_schema": schema})
    assert text is not None
    return Grammar(text)


NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    "required": ["next"],
}
INTEGER = {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "permitted", "forbidden"),
    [
        ({}, ['{"a": [1, "b", null, true, -0.5e+3]}'], ["1"]),
        ({"type": "object"}, ["{}"], ["[]", "1", "null"]),
        ({"type": ["string", "null"], "enum": ["red", None]}, ['"red"', "null"], ['"blue"', "1"]),
        ({"type": "string", "enum": ["red", None]}, ['"red"'], ["null"]),
        ({"enum": ["C:\\dir", "a\nb", 'say "hi"']}, [r'"C:\\dir"', r'"a\nb"', r'"say \"hi\""'], ['"a"', '"a\nb"']),
        ({"const": {"a": [1]}}, ['{"a": [1]}'], ['{"a": [2]}']),
        ({"enum": [1, True], "const": True}, ["true"], ["1"]),
        (
            {"type": ["object", "null"], "properties": {"a": INTEGER}, "required": ["a"]},
            ['{"a": 1}', "null"],
            ["{}", '{"a": "x"}', '{"b": 1}'],
        ),
        ({"type": ["string", "null"], "maxLength": 2}, ['""', '"ab"', "null"], ['"abc"']),
        ({"type": "string", "minLength": 2}, ['"ab"', r'"\n\u00e9"'], ['"a"']),
        ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
        ({"type": "string"}, ['"a b"', r'"\""'], ['"\n"', '"\\"', r'"\ud800"']),
        (
            {"properties": {"c": {"allOf": [{"$ref": "#/$defs/C"}], "title": "x"}}, "$defs": {"C": {"enum": ["r"]}}},
            ["{}", '{"c": "r"}'],
            ['{"c": {}}'],
        ),
        ({"$defs": {"Node": NODE}, "$ref": "#/$defs/Node"}, ['{"next": {"next": null}}'], ["{}", '{"next": {}}']),
        ({**NODE, "$defs": {"Node": {"$ref": "#"}}}, ['{"next": {"next": null}}'], ["{}"]),
        (
            {
                "properties": {"a": {"type": "string", "maxLength": 3}, "b": {"$ref": "#/$defs/char"}},
                "required": ["a", "b"],
                "$defs": {"char": INTEGER, "r0": {"type": "null"}},
            },
            ['{"a": "x", "b": 5}'],
            ['{"a": "x", "b": "y"}', '{"a": 5, "b": 5}'],
        ),
        (
            {"allOf": [{"properties": {"a": INTEGER}, "required": ["a"]}, {"properties": {"b": INTEGER}}]},
            ['{"a": 1, "b": 2}', '{"a": 1}'],
            ['{"b": 2}'],
        ),
        (
            {"properties": {"a": INTEGER, "b": INTEGER}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            ['{"a": 1}', '{"b": 1}', '{"a": 1, "b": 1}'],
            ["{}"],
        ),
        (
            {"properties": {"a": INTEGER, "b": INTEGER, "c": INTEGER}},
            ["{}", '{"a": 1}', '{"b": 1, "c": 1}', '{"a": 1, "c": 2}'],
            ['{"a": 1,}', '{"d": 1}'],
        ),
        (
            {"properties": {"ab": INTEGER}, "additionalProperties": {"type": "null"}},
            ["{}", '{"ab": 1, "abc": null, "": null}', '{"a": null}', '{"x": null}'],
            ['{"ab": null}', '{"ab": 1, "ab": null}', r'{"\u0061b": null}'],
        ),
        (
            {"properties": {'a"b': INTEGER, "é": INTEGER}, "additionalProperties": True},
            [r'{"a\"b": 1, "é": 2, "a": [], "êx": 3}'],
            ['{"é": "x"}', '{"a"b": 1}', '{"a\\": 1}'],
        ),
        ({"required": ["a"]}, ['{"a": [1], "b": 2}'], ["{}", '{"b": 1}']),
        ({"type": "array", "maxItems": 2}, ["[]", '[1, "a"]'], ["[1, 2, 3]"]),
        ({"items": INTEGER, "minItems": 1, "maxItems": 1}, ["[1]"], ["[]", "[1, 2]", '["a"]']),
        ({"items": INTEGER, "minItems": 2}, ["[1, 2]", "[1, 2, 3]"], ["[1]"]),
        ({"type": "array", "items": False}, ["[]"], ["[1]"]),
        ({"prefixItems": [INTEGER, {"type": "null"}], "items": False}, ["[1, null]"], ["[1]", "[1, null, 2]"]),
        ({"type": "string", "pattern": r"^\d{3}$"}, ['"123"'], ['"12"', '"1234"', '"abc"']),
        ({"pattern": r"^[^a-c]+$"}, ['"xyz"', r'"\""', r'"\\"'], ['"xaz"', '""', '"""']),
        ({"pattern": r"^(?:a|b\.)?[\w-]*$"}, ['""', '"b.x-y"'], ['"b,"']),
        ({"pattern": '^"\\\\$'}, [r'"\"\\"'], ['""\\"']),
        ({"type": "string", "format": "date"}, ['"2024-01-31"'], ['"2024-02-30"', '"2024-13-01"', '"x"']),
        ({"type": "string", "format": "email"}, ['"x"'], ["1"]),
        ({"type": "string", "minimum": 3, "title": "x", "x-own": [1]}, ['"x"'], ["5"]),
        ({"oneOf": [INTEGER, {"type": "boolean"}]}, ["0", "-12", "true"], ["01", "1.5", "null"]),
        ({"anyOf": [True]}, ["[null]"], []),
        ({"items": {"$ref": "#/x/a~1b/0"}, "x": {"a/b": [INTEGER]}}, ["[1]"], ['["a"]']),
    ],
    ids=lambda case: str(case)[:70],
)
def test_a_grammar_permits_what_its_schema_permits(schema: Any, permitted: list[str], forbidden: list[str]) -> None:
    made = grammar(schema)

    assert [text for text in permitted if not made.permits(text)] == []
    assert [text for text in forbidden if made.permits(text)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/x/a", "x": {"a": {"type": "integer", "minimum": 3}}},
        {"$ref": "#/x/a", "x": {"a": {"type": "string", "maxLength": 10**8}}},
        {"$ref": "#/nowhere"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"minimum": 3},
        {"type": "string", "pattern": "^a$", "maxLength": 3},
        {"type": "string", "format": "date", "maxLength": 3},
        {"enum": ["a"], "maxLength": 3},
        {"enum": []},
        {"type": "integer", "enum": ["a"]},
        {"type": []},
        {"properties": {"a": INTEGER}, "required": ["b"]},
        {"properties": {"a": False}, "required": ["a"]},
        {"properties": {"a": INTEGER}, "items": INTEGER},
        {"properties": [1]},
        {"required": [1]},
        {"anyOf": [], "type": "object"},
        {"anyOf": [INTEGER], "oneOf": [INTEGER]},
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        {"allOf": [{"pattern": "^a$"}, {"pattern": "^b$"}]},
        {"allOf": [{"properties": {"a": INTEGER}}, {"properties": {"b": INTEGER}, "additionalProperties": False}]},
        {"not": {"type": "string"}},
        {"minItems": 3, "maxItems": 2},
        {"prefixItems": [INTEGER], "minItems": 2},
        {"type": "object", "patternProperties": {"a": INTEGER}},
        {"const": float("nan")},
        {"anyOf": [{"type": "string", "maxLength": 1000 - number} for number in range(100)]},
    ],
    ids=lambda schema: str(schema)[:70],
)
def test_what_cannot_be_kept_to_is_refused(schema: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        grammar_of({"json_schema": schema})

    assert refusal.value.status == 400


@pytest.mark.parametrize(
    "pattern",
    [
        "a", "^a", "^a\\$", "^a]$", "^a}$", "^a{ 300000000}$", "^a{,5}$", "^a{2,1}$", "^a{1001}$", "^(a{100}){100}$",
        "^(a?)*$", "^(a|)+$", "^(?=a)a$", "^\\bx$", "^(a)\\1$", "^[]$", "^[z-a]$", "^[a$", "^(a$", "^a)$", "^*a$", "^a**$",
        "^a^b$", "^a$b$", "^[\\x00]$", "^" + "(" * 100 + ")" * 100 + "$", "^" + "a" * 600 + "$", 5,
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_kept_to_is_refused(pattern: object) -> None:
    with pytest.raises(Refusal) as refusal:
        grammar_of({"json_schema": {"type": "string", "pattern": pattern}})

    assert refusal.value.status == 400


def test_schemas_that_grow_as_they_are_read_are_refused() -> None:
    levels = {
        f"a{level}": {
            "properties": {f"p{level}": {"type": "null"}},
            "anyOf": [{"required": [f"{side}{level}"], "allOf": [{"$ref": f"#/$defs/a{level + 1}"}]} for side in "xy"],
        }
        for level in range(40)
    }
    levels["a40"] = {}

    with pytest.raises(Refusal, match=r"too many parts|within each other"):
        grammar_of({"json_schema": {"$ref": "#/$defs/a0", "$defs": levels}})


def test_each_tool_has_its_own_definitions() -> None:
    def tool(name: str, kind: str) -> dict[str, Any]:
        parameters = {"properties": {"at": {"$ref": "#/$defs/At"}}, "required": ["at"], "$defs": {"At": {"type": kind}}}
        return {"type": "function", "function": {"name": name, "parameters": parameters}}

    made = Grammar(calls_to_grammar([tool("look", "integer"), tool('a"b', "null")]))

    assert made.permits('{"name": "look", "arguments": {"at": 5}}')
    assert made.permits(json.dumps({"name": 'a"b', "arguments": {"at": None}}))
    assert not made.permits('{"name": "look", "arguments": {"at": null}}')


def test_a_tool_without_parameters_takes_any_object() -> None:
    made = Grammar(calls_to_grammar([{"type": "function", "function": {"name": "look"}}]))

    assert made.permits('{"name": "look", "arguments": {"a": 1}}')
    assert not made.permits('{"name": "look", "arguments": 1}')


def test_the_same_schema_met_under_many_names_is_not_read_without_end() -> None:
    long = {"enum": [1] * 8000 + ["x"], "type": "string"}
    many = [{"$ref": "#/$defs/Long", "title": str(number)} for number in range(800)]

    with pytest.raises(Refusal, match="too many parts"):
        grammar_of({"json_schema": {"anyOf": many, "$defs": {"Long": long}}})
