"""Two inputs share a key if nothing that their vectors depend on differs, and never otherwise."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import Input, make_space

# A million in full: CACHE_KEYS=1000000 in the environment (5 s).
KEYS = int(os.environ.get("CACHE_KEYS", "200000"))

words = st.text(st.characters(codec="utf-8"), max_size=12)
# Texts that look like what else a key is made of: lengths, numbers, JSON, names of kinds, breaks.
tricky = st.sampled_from(
    ["", "text", "tokens", "null", '"null"', "[1, 2, 3]", "[1,2,3]", "{}", "\0", "\0" * 8, "1", "1536", "a/b", "/", '"']
)
texts = words | tricky
token_lists = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8)
inputs: st.SearchStrategy[Input] = texts | token_lists
fields = st.fixed_dictionaries(
    {},
    optional={
        "dimensions": st.integers(1, 4096),
        "input_type": texts,
        "truncate": texts | st.booleans(),
        "task": texts,
    },
)
Parts = dict[str, Any]
parts: st.SearchStrategy[Parts] = st.fixed_dictionaries(
    {"scope": texts, "label": texts, "revision": texts, "policy": texts, "fields": fields, "input": inputs}
)


def key_of(parts: Parts) -> bytes:
    rest = dict(parts)
    given_input: Input = rest.pop("input")
    return make_space(**rest).key(given_input)


def key_with(**body: Any) -> bytes:
    """Return the key of the usual parts with other fields of the body."""
    return key_of({**USUAL, "fields": body})


USUAL: Parts = {
    "scope": "",
    "label": "lab/small",
    "revision": "1",
    "policy": "none",
    "fields": {"dimensions": 256, "input_type": "query"},
    "input": "Hello",
}


@given(parts, parts)
def test_the_keys_are_the_same_when_all_parts_are_and_only_then(first: Parts, second: Parts) -> None:
    assert (key_of(first) == key_of(second)) == (first == second)


@given(parts, parts)
def test_one_part_that_differs_makes_another_key(first: Parts, other: Parts) -> None:
    for name in first:
        second = {**first, name: other[name]}

        assert (key_of(first) == key_of(second)) == (first == second)


@given(texts, texts, texts)
def test_a_boundary_that_moves_between_parts_makes_another_key(first: str, middle: str, last: str) -> None:
    names = ("scope", "label", "revision", "policy", "input")
    for left, right in itertools.combinations(names, 2):
        before = {**USUAL, left: first + middle, right: last}
        after = {**USUAL, left: first, right: middle + last}

        assert (key_of(before) == key_of(after)) == (middle == "" or before == after)


@given(token_lists)
def test_a_text_never_has_the_key_of_a_list_of_tokens(tokens: list[int]) -> None:
    packed = struct.pack(f"<{len(tokens)}I", *tokens)
    looks_like_it = [str(tokens), ",".join(map(str, tokens)), packed.decode("latin-1"), "".join(map(chr, packed))]
    looks_like_it += [f"tokens{text}" for text in looks_like_it]

    keys = {key_of({**USUAL, "input": text}) for text in looks_like_it}

    assert key_of({**USUAL, "input": tokens}) not in keys


@given(token_lists, st.integers(1, 7))
def test_a_list_of_tokens_that_is_cut_or_joined_differently_has_another_key(tokens: list[int], cut: int) -> None:
    head, whole = tokens[:cut], tokens

    assert (key_of({**USUAL, "input": head}) == key_of({**USUAL, "input": whole})) == (head == whole)


def test_the_words_of_a_body_that_no_vector_depends_on_are_left_out() -> None:
    aside = {"encoding_format": "base64", "user": "u", "stream": False, "model": "m", "input": "i", "truncate": None}

    assert key_of(USUAL) == key_of({**USUAL, "fields": {**USUAL["fields"], **aside}})


def test_the_order_of_a_bodys_fields_does_not_matter() -> None:
    one, other = {"task": "a", "truncate": "b"}, {"truncate": "b", "task": "a"}

    assert key_of({**USUAL, "fields": one}) == key_of({**USUAL, "fields": other})


@pytest.mark.parametrize("other", [True, "1", 1.0, [1], {"1": 1}], ids=repr)
def test_values_that_python_finds_equal_or_that_look_alike_are_not_the_same(other: object) -> None:
    assert key_with(size=1) != key_with(size=other)


def test_a_space_is_its_models_and_tells_the_dimensions_that_were_asked_for() -> None:
    one = make_space(scope="a", label="lab/small", revision="1", fields={"dimensions": 8})
    same_model = make_space(scope="b", label="lab/small", revision="2", fields={})
    other_model = make_space(scope="a", label="lab/large", revision="1", fields={"dimensions": 8})

    assert one.id == same_model.id != other_model.id
    assert len(one.id) == 8
    assert (one.dimensions, same_model.dimensions) == (8, None)


def many() -> Iterator[bytes]:
    """Yield keys of short texts and token lists that differ in little, in spaces that do as well."""
    bodies: list[dict[str, Any]] = [{}, {"dimensions": 1}, {"dimensions": 11}, {"input_type": "1"}, {"task": "1"}]
    spaces = [
        make_space(scope=scope, label=label, revision="", fields=body)
        for scope, label, body in itertools.product(("", "a"), ("a/b", "a/bc"), bodies)
    ]
    for number in itertools.count():
        yield from (space.key(str(number)) for space in spaces)
        yield from (space.key([number]) for space in spaces)


def test_many_inputs_that_are_alike_have_as_many_keys() -> None:
    keys = set(itertools.islice(many(), KEYS))

    assert len(keys) == KEYS
    assert {len(key) for key in keys} == {32}
