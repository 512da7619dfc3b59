"""Environment variables are filled in once, in one place, and stay one piece of text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import parse
from gateway.config.variables import BadVariable, fill_in

VALUES = st.text(st.sampled_from("${}:-ABab\\n'\"[],# "), max_size=20)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${A}", "one"),
        ("x${A}y${A}", "xoneyone"),
        ("${MISSING:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${MISSING:-}", ""),
        ("${A:-two}", "one"),
        ("${MISSING:-a:b/c?d=-}", "a:b/c?d=-"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A $ $$ {A}", "$A $ $$ {A}"),
    ],
)
def test_a_variable_is_filled_in(text: str, filled: str) -> None:
    assert fill_in(text, {"A": "one", "EMPTY": ""}) == filled


@pytest.mark.parametrize("text", ["${MISSING}", "${", "${}", "${A", "${1A}", "${A-b}", "${A:=b}", "a ${ b"])
def test_what_cannot_be_filled_in_is_refused(text: str) -> None:
    with pytest.raises(BadVariable):
        fill_in(text, {"A": "one"})


def test_a_missing_variable_is_named(complain) -> None:
    lines = complain("providers:\n  lab:\n    kind: openai\n    base_url: ${LAB_URL}\n")

    assert lines == [
        "gateway.yaml:4: providers.lab.base_url: the environment variable LAB_URL is not set; "
        "${LAB_URL:-…} would give it a default"
    ]


def test_a_spelling_that_is_no_variable_says_how_it_is_done(complain) -> None:
    lines = complain("providers:\n  lab: {kind: openai, base_url: '${LAB-URL}'}\n")

    assert lines == [
        "gateway.yaml:2: providers.lab.base_url: expected ${NAME} or ${NAME:-default}; a plain ${ is written $${"
    ]


@given(value=VALUES)
def test_no_value_is_ever_filled_in_again(value: str) -> None:
    environ = {"A": value, "B": "never", "a": "never", "AB": "never"}

    assert fill_in("<${A}>", environ) == f"<{value}>"


@given(value=VALUES.filter(str.strip))
def test_no_value_is_ever_parsed_as_yaml(value: str) -> None:
    text = "providers: {lab: {kind: openai, base_url: 'http://h', classes: {small: '${A}'}}}"

    config = parse(text, "gateway.yaml", environ={"A": value})

    assert config.providers["lab"].classes == {"small": value}  # type: ignore[union-attr]  # it is the openai kind


def test_a_whole_number_from_a_variable_is_a_number(load_text) -> None:
    config = load_text("server: {port: '${PORT:-8080}', workers: '${N}'}\nproviders: {ollama: }", {"N": "3"})

    assert (config.server.port, config.server.workers) == (8080, 3)


def test_a_key_of_digits_stays_text(load_text) -> None:
    config = load_text("providers: {openai: {api_key: '${K}'}}", {"K": "12345"})

    assert config.providers["openai"].api_key.get_secret_value() == "12345"


def test_keys_of_mappings_are_not_filled_in(complain) -> None:
    lines = complain("providers: {ollama: }\nmodels: {'${A}': {deployments: [ollama/x]}}", {"A": "a"})

    assert lines[0].startswith("gateway.yaml:2: models['${A}']: expected a name")


def test_a_number_that_a_variable_does_not_give_is_told_by_the_variables_name(complain) -> None:
    lines = complain("server: {port: '${PORT:-8080}'}\nproviders: {ollama: }", {"PORT": "abc"})

    assert lines == ["gateway.yaml:1: server.port: expected an integer from 0 to 65535, got the value of ${PORT:-8080}"]


def test_an_empty_key_names_its_variable(complain) -> None:
    lines = complain("auth: {keys: [{name: a, key: '${APP_KEY}'}]}\nproviders: {ollama: }", {"APP_KEY": ""})

    assert lines == ["gateway.yaml:1: auth.keys[0].key: must not be empty (${APP_KEY})"]
