"""What can be wrong with the file before its meaning matters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config import load
from gateway.mistakes import ConfigError

UNUSABLE = {
    "an empty file": (b"", "gateway.yaml: the file is empty"),
    "comments alone": (b"# nothing\n", "gateway.yaml: the file is empty"),
    "a list": (b"- a\n", "gateway.yaml:1: expected a mapping with keys such as server, auth and providers"),
    "a word": (b"hello", "gateway.yaml:1: expected a mapping with keys such as server, auth and providers"),
    "Latin-1": (b"a: 1\nb: caf\xe9\n", "gateway.yaml:2: not UTF-8 text (byte 0xe9)"),
    "UTF-16": ("a: 1".encode("utf-16"), "gateway.yaml:1: not UTF-8 text (byte 0xff)"),
    "a tab": (
        b"a: 1\n\tb: 2\n",
        "gateway.yaml:2: not valid YAML at column 1: found a tab character that violates indentation",
    ),
    "an indentation": (
        b"a: 1\n b: 2\n",
        "gateway.yaml:2: not valid YAML at column 3: mapping values are not allowed in this context",
    ),
    "two documents": (
        b"a: 1\n---\nb: 2\n",
        "gateway.yaml:2: not valid YAML at column 1: expected a single document in the stream, "
        "but found another document",
    ),
    "a variable without quotes": (
        b"auth:\n  keys:\n    - {name: a, key: ${KEY}}\n",
        "gateway.yaml:3: not valid YAML at column 23: did not find expected ',' or '}'; "
        'within {} and [] a variable is written in quotes, as "${NAME}"',
    ),
    "a control character": (b"a: \x01\n", "gateway.yaml: not valid YAML: control characters are not allowed"),
    "an alias of nothing": (b"a: *b\n", "gateway.yaml:1: not valid YAML at column 4: found undefined alias"),
    "deep nesting": (b"[" * 100_000, "gateway.yaml:1: nested more than 40 levels deep"),
    "an alias within itself": (b"a: &a [*a]\n", "gateway.yaml:1: nested more than 40 levels deep, counting aliases"),
    "a merge of itself": (
        b"a: &a\n  <<: *a\n",
        "gateway.yaml:1: nested more than 40 levels deep, counting aliases",
    ),
    "a billion laughs": (
        b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        b"b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
        b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
        b"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
        "gateway.yaml:1: more than 20000 values, counting what aliases stand for",
    ),
    "a huge file": (b"#" * 1_048_577, "gateway.yaml: the file is larger than 1048576 bytes"),
}


@pytest.mark.parametrize(("text", "line"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_text_that_is_no_configuration_is_one_mistake(complain, text: bytes, line: str) -> None:
    lines = complain(text)

    assert lines == [line]


def test_a_key_that_stands_twice_names_both_lines(complain) -> None:
    lines = complain("server:\n  port: 1\n  host: localhost\n  port: 2\nproviders: {ollama: }\n")

    assert lines == ["gateway.yaml:4: server.port: duplicate key, first on line 2"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("!!int abc", "expected a value of the YAML type int"),
        ("9" * 5000, "expected a value of the YAML type int"),
        ("!!binary YQ==", "expected a value without a YAML tag"),
        ("!mine 1", "expected a value without a YAML tag"),
        (".inf", "expected a finite number"),
    ],
)
def test_a_scalar_that_is_none_of_ours_is_told_where_it_stands(complain, value: str, sentence: str) -> None:
    lines = complain(f"server:\n  port: {value}\nproviders: {{ollama: }}\n")

    assert lines == [f"gateway.yaml:2: server.port: {sentence}"]


def test_a_key_that_is_no_word_is_a_mistake(complain) -> None:
    lines = complain("providers: {ollama: }\nserver: {[a]: 1}\n")

    assert lines == ["gateway.yaml:2: server: expected plain words as keys"]


def test_a_file_that_is_not_there_is_one_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "gateway.yaml", environ={})

    assert str(caught.value) == f"{tmp_path}/gateway.yaml: there is no such file"


def test_a_directory_is_one_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={})

    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_one_mistake(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)

    with pytest.raises(ConfigError) as caught:
        load(path, environ={})

    assert str(caught.value) == f"{path}: is not a regular file"


def test_of_a_huge_file_one_byte_too_many_is_read(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with file.open("wb") as made:
        made.truncate(1 << 40)  # takes no room on the disk

    with pytest.raises(ConfigError) as caught:
        load(file, environ={})

    assert str(caught.value) == f"{file}: the file is larger than 1048576 bytes"


def test_text_that_is_given_is_used_instead_of_the_file(tmp_path: Path) -> None:
    config = load(tmp_path / "gateway.yaml", text=b"providers: {ollama: }", environ={})

    assert list(config.providers) == ["ollama"]


def test_anchors_aliases_and_merges_work(load_text) -> None:
    config = load_text("""\
        providers:
          lab: &lab {kind: openai, base_url: "http://127.0.0.1:9000/v1", settings: &warm {temperature: 0.5}}
          lab2: {<<: *lab, api_key: b}
          lab3: {<<: [*lab], settings: {<<: *warm, top_p: 1}, base_url: "http://127.0.0.1:9001/v1"}
    """)

    lab2, lab3 = config.providers["lab2"], config.providers["lab3"]
    assert lab2.base_url == "http://127.0.0.1:9000/v1"
    assert lab2.api_key.get_secret_value() == "b"
    assert lab3.base_url == "http://127.0.0.1:9001/v1"
    assert lab3.settings == {"temperature": 0.5, "top_p": 1}


def test_a_mistake_in_a_merged_value_is_told_at_the_line_it_stands_on(complain) -> None:
    lines = complain("""\
        providers:
          ollama: {}
        models:
          a: &a
            deployments: [ollama/x]
            strategy: fast
          b:
            <<: *a
    """)

    assert lines == [
        "gateway.yaml:6: models.a.strategy: expected one of: priority, weighted, least_busy, lowest_latency, got 'fast'",
        "gateway.yaml:6: models.b.strategy: expected one of: priority, weighted, least_busy, lowest_latency, got 'fast'",
    ]


def test_a_byte_order_mark_is_passed_over(load_text) -> None:
    config = load_text("\ufeffproviders: {ollama: }")

    assert list(config.providers) == ["ollama"]


def test_sections_without_content_are_as_if_left_out(load_text) -> None:
    config = load_text("providers:\n  ollama:\nmodels:\nauth:\nserver:\n")

    assert config.models == {}
    assert config.server.port == 8080
