"""Grammars whose ways multiply are seen before an engine follows them; grammars in use are not taken for them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.worker.batching.schemas import schema_grammar
from gateway.worker.branching import multiplies

JSON = r"""
root   ::= arr
value  ::= object | array | string | number | ("true" | "false" | "null") ws
arr  ::=
  "[\n" ws (
            value
    (",\n" ws value)*
  )? "]"
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [1-9] [0-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
CODE = r"""
root ::= (declaration)*
declaration ::= dataType identifier "(" parameter? ")" "{" statement* "}"
dataType  ::= "int" ws | "float" ws | "char" ws
identifier ::= [a-zA-Z_] [a-zA-Z_0-9]*
parameter ::= dataType identifier
statement ::=
    ( dataType identifier ws "=" ws expression ";" ) |
    ( identifier ws "=" ws expression ";" ) |
    ( identifier ws "(" argList? ")" ";" ) |
    ( "return" ws expression ";" ) |
    ( "while" "(" condition ")" "{" statement* "}" ) |
    ( "for" "(" forInit ";" ws condition ";" ws forUpdate ")" "{" statement* "}" ) |
    ( "if" "(" condition ")" "{" statement* "}" ("else" "{" statement* "}")? ) |
    ( singleLineComment ) |
    ( multiLineComment )
forInit ::= dataType identifier ws "=" ws expression | identifier ws "=" ws expression
forUpdate ::= identifier ws "=" ws expression
condition ::= expression relationOperator expression
relationOperator ::= ("<=" | "<" | "==" | "!=" | ">=" | ">")
expression ::= term (("+" | "-") term)*
term ::= factor(("*" | "/") factor)*
factor ::= identifier | number | unaryTerm | funcCall | parenExpression
unaryTerm ::= "-" factor
funcCall ::= identifier "(" argList? ")"
parenExpression ::= "(" ws expression ws ")"
argList ::= expression ("," ws expression)*
number ::= [0-9]+
singleLineComment ::= "//" [^\n]* "\n"
multiLineComment ::= "/*" ( [^*] | ("*" [^/]) )* "*/"
ws ::= ([ \t\n]+)
"""
QUERY = r"""
root ::= select ";"
select ::= "SELECT " cols " FROM " source (" WHERE " cond)?
cols ::= "*" | col (", " col)*
col ::= ident ("." ident)?
source ::= ident | "(" select ")" " AS " ident
cond ::= andc (" OR " andc)*
andc ::= notc (" AND " notc)*
notc ::= "NOT " notc | prim
prim ::= "(" cond ")" | col " " op " " value
op ::= "=" | "<" | ">" | "<=" | ">=" | "<>"
value ::= [0-9]+ | "'" [^']* "'" | col | "(" select ")"
ident ::= [a-z_]+
"""
CHESS = r"""
root   ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move   ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn   ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"""
ITSELF = {"$ref": "#"}
SUM = {"$ref": "#/$defs/sum"}


def term(**first: Any) -> dict[str, Any]:
    """Return the schema of an object whose required properties are `first`, in their order."""
    return {"type": "object", "properties": first, "required": list(first)}


def chain(length: int, second: str) -> str:
    rules = [f'a{place} ::= "x" a{place + 1} "b" | "{second}" a{place + 1} "c"' for place in range(length)]
    return "\n".join(["root ::= a0", *rules, f'a{length} ::= "."'])


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= a\na ::= "x" a "b" | "x" a "c"',
        'root ::= a\na ::= "x" a "b" | "x" a "b"',
        'root ::= "aaaa" "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" a\na ::= ("x" a "b" | "x" a "c")',
        'root ::= a\na ::= b "1" | c "2"\nb ::= "key: " a\nc ::= [a-z]+ ": " a',
        'root ::= a\na ::= ("x" a)* "x" a "c" | "y"',
        'root ::= a\na ::= [a-z] a [0-9] | [x-z] a "q" | "."',
        'root ::= a+\na ::= "x" a? a "b" | "y"',
        'root ::= ( "(" root ")" | "(" root "]" )',
        'root ::= a\na ::= b a "1" | b a "2"\nb ::= "u" "v"',
        'root ::= q\nq ::= p "x" q "c" | "y"\np ::= "z" ("x" q)* ',
        'root ::= s\ns ::= "if(" s ")" s* | "if(" s ")" s* "else" s* | "x;"',
        'root ::= item+\nitem ::= "- " [a-z]+ "\\n" item*',
        'root ::= a\na ::= "x" a | "x" a "b" | "."',
        chain(30, "x"),
    ],
)
def test_a_grammar_whose_ways_multiply_is_seen(grammar: str) -> None:
    assert multiplies(grammar)


@pytest.mark.parametrize(
    "grammar",
    [
        JSON,
        CODE,
        QUERY,
        CHESS,
        'root ::= s\ns ::= "x" s | "y" s | "xy" s | "z"',
        'root ::= e\ne ::= "(" e ")" e | ""',
        'root ::= s\ns ::= "if " s " else " s | "while " s | "x"',
        'root ::= ("word " ("a" | "b" | [^a-z\\]]) <|end|>? . )*',
        chain(30, "y"),
        "root ::= (((",
        "",
    ],
)
def test_a_grammar_in_use_is_not_taken_for_one(grammar: str) -> None:
    assert not multiplies(grammar)


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "array", "items": ITSELF}, {"type": "array", "items": ITSELF, "maxItems": 3}]},
        {"$ref": "#/$defs/sum", "$defs": {"sum": {"anyOf": [term(left=SUM, plus=SUM), term(left=SUM, times=SUM)]}}},
    ],
)
def test_a_schema_whose_alternatives_hold_themselves_first_is_seen(schema: Any) -> None:
    assert multiplies(schema_grammar(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"enum": [f"value {place}" for place in range(1000)]},
        {"type": "object", "properties": {f"p{place}": {"type": "array", "items": ITSELF} for place in range(100)}},
        {"type": "object", "properties": {"left": {"anyOf": [ITSELF, {"type": "null"}]}, "right": ITSELF}},
        {"anyOf": [term(op={"const": name}, left=ITSELF, right=ITSELF) for name in ("add", "sub")]},
        {"anyOf": [{"type": "object"}, term(a={"type": "object"})]},
    ],
)
def test_a_schema_in_use_is_not_taken_for_one(schema: Any) -> None:
    assert not multiplies(schema_grammar(schema))


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= a0\n" + "\n".join(f"a{i} ::= " + " | ".join(f'a{i + 1} "{k}"' for k in range(30)) for i in range(100)),
        "root ::= " + "a? " * 15_000 + '\na ::= "x" root "z" | "y"',
        "\n".join(f'a{place} ::= "x" a{place} "y" | a{place + 1}' for place in range(2500)),
        f"root ::= [{''.join(map(chr, range(0x4E00, 0x6E00, 2)))}] root 'x' | [{''.join(map(chr, range(0x4E01, 0x6E00, 2)))}] root",
        "root ::= " + "(" * 5000 + '"a" root ' + ")*" * 5000,
    ],
)  # fmt: skip
def test_a_grammar_made_to_keep_the_search_busy_does_not(grammar: str) -> None:
    began = time.thread_time()

    multiplies(grammar)

    assert time.thread_time() - began < 10  # without its bounds: minutes to for ever
