"""Grammars and patterns that a model's process does not survive never reach it; those in use do."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.providers.llamacpp_grammars import LARGEST_GRAMMAR, LARGEST_PATTERN, MOST_REPETITIONS, check_forms

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws # (((((( escapes
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
NESTED = "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000
HANGING = "root ::= " + "a " * 60 + '\na ::= ("a"? "a"? "a"? "a"? "a"? "a"?)*'


def fault_of(**body: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        check_forms(body)
    return caught.value.param, caught.value.code


def asking_for(pattern: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"pattern": {"type": "string", "pattern": pattern}}}
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


@pytest.mark.parametrize(
    "grammar",
    [
        JSON,
        'root ::= ("- " [^\\n]* "\\n")+',
        'root ::= a\na ::= b?\nb ::= "x" a',
        "root ::= [(]{3} ws\nws ::= [ \\t\\n]*",
        'root ::= ("a" | "b")* "" ("c"?)',
        "root ::= (((",
        "root ::= (" + " | ".join(f'"word {number}"' for number in range(900)) + ")*",
        "root ::= " + 'a "x" ' * 900 + '\na ::= "a"? "b"?',
        "\n".join(["root ::= a0", *(f"a{number} ::= a{number + 1}" for number in range(2000)), 'a2000 ::= "x"']),
    ],
)
def test_grammars_in_use_pass(grammar: str) -> None:
    check_forms({"grammar": grammar})


@pytest.mark.parametrize(
    "grammar",
    [
        HANGING,
        NESTED,
        "root ::= ws*\nws ::= [ ]*",
        'root ::= (a b)+\na ::= | "x"\nb ::= a a',
        'root ::= ("x"? | "y"){2,}',
        'root ::= "x"?*',
        'root ::= ("a"{0,3}){5}',
        "root ::= " + '"a"? ' * 300,
        "root ::= " + "a " * 300 + '\na ::= b b\nb ::= "x"?',
        "root ::= (" + "|".join(['"a"'] * 5000) + ")+",
        'root ::= a\na ::= "x"? a | "y"',
        f"root ::= [a]{{{MOST_REPETITIONS + 1}}}",
        "x" * (LARGEST_GRAMMAR + 1),
        "root ::= \0",
        "%llguidance {}\nstart: /[a-z]{1,9000}/",
        5,
    ],
)
def test_grammars_that_hang_or_end_a_model_are_refused(grammar: Any) -> None:
    assert fault_of(grammar=grammar) == ("grammar", "invalid_value")


def test_rules_that_take_long_to_understand_are_refused() -> None:
    rules = [f"a{number + 1} ::= a{number}" for number in range(40)]

    assert fault_of(grammar="\n".join(["a0 ::= ", *rules]))[0] == "grammar"


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{2,4}-\d+$",
        r"^(a|b)*$",
        r"^(https?://)?[\w.]+(/[\w]*)*$",
        r"^\d{3}-\d{4}(-x)?$",
        r"^[^]]*\(+[(*]+.*?$",
    ],
)
def test_patterns_in_use_pass(pattern: str) -> None:
    check_forms({"response_format": asking_for(pattern)})


@pytest.mark.parametrize(
    "pattern",
    [
        "^" + "(a?a?a?a?a?a?)*" * 30 + "$",
        r"^(\s*\w*)*$",
        "(" * 100 + "a" + ")" * 100,
        f"^.{{0,{MOST_REPETITIONS + 1}}}$",
        "a?" * 100,
        "a" * (LARGEST_PATTERN + 1),
    ],
)
@pytest.mark.parametrize("name", ["response_format", "json_schema", "tools"])
def test_patterns_that_hang_or_end_a_model_are_refused(name: str, pattern: str) -> None:
    asked = asking_for(pattern)

    assert fault_of(**{name: [asked] if name == "tools" else asked}) == (name, "invalid_value")


def test_a_schema_that_is_too_deep_or_too_large_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"items": deep}

    assert fault_of(json_schema=deep)[0] == "json_schema"
    assert fault_of(json_schema={"enum": ["x" * LARGEST_GRAMMAR]})[0] == "json_schema"
    assert fault_of(json_schema={"enum": list(range(2000))})[0] == "json_schema"


def optional(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{place}": {"type": "integer"} for place in range(count)}}


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"enum": list(range(place, place + 400))} for place in (0, 400, 800)]},
        {"properties": {name: {"anyOf": [{"const": place} for place in range(600)]} for name in "ab"}},
        optional(501),
        {"allOf": [optional(400), optional(400)]},
        {"properties": {f"a{place}": optional(100) for place in range(26)}},
    ],
)
def test_a_schema_that_takes_seconds_to_follow_is_refused(schema: dict[str, Any]) -> None:
    assert fault_of(json_schema=schema) == ("json_schema", "invalid_value")


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [f"value {place}" for place in range(1000)]},
        optional(500),
        {"properties": {f"a{place}": optional(20) for place in range(50)}},
        {"type": "object", "properties": {f"p{place}": {} for place in range(900)}, "required": [f"p{place}" for place in range(900)]},
        {"properties": {"required": {"type": "boolean"}, "properties": {"type": "object"}, "enum": {"type": "string"}}},
    ],
)  # fmt: skip
def test_large_schemas_in_use_pass(schema: dict[str, Any]) -> None:
    check_forms({"json_schema": schema})
