"""`gateway tokens`: a request counted from a file or a pipe, with the configuration and without a gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import environment

CONFIG: dict[str, Any] = {
    "providers": {
        "lab": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-hush-0123"},
        "local": {"kind": "llamacpp", "models": {"tiny": {"path": "/nowhere/tiny.gguf", "context_window": 300}}},
    },
    "models": {
        "small": {"deployments": [{"provider": "lab", "model": "gpt-4o", "context_window": 200}, "local/tiny"]},
        "embedding": {"deployments": [{"provider": "lab", "model": "text-embedding-3-small", "context_window": 8}]},
    },
}
CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "gateway.yaml").write_text(json.dumps(CONFIG))
    return tmp_path


def run(directory: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "tokens", *arguments],
        cwd=directory,
        env=environment(),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_is_counted_for_each_deployment(directory: Path) -> None:
    (directory / "chat.json").write_text(json.dumps(CHAT))

    done = run(directory, "chat.json", "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["object"], told["model"]) == ("token_count", "small")
    hosted, local = told["deployments"]
    assert (hosted["deployment"], hosted["encoding"], hosted["input_limit"]) == ("lab/gpt-4o", "o200k_base", 150)
    assert (local["deployment"], local["encoding"], local["margin"]) == ("local/tiny", "cl100k_base", 0.4)
    assert (local["context_window"], local["fits"], local["would_drop"]) == (300, True, 0)
    assert hosted["tokens"]["total"] == sum(hosted["tokens"]["messages"]) + hosted["tokens"]["around"]


def test_lines_for_people_say_how_a_local_model_was_counted(directory: Path) -> None:
    done = run(directory, "-", given=json.dumps(CHAT))

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "small:"
    assert lines[1].startswith("  lab/gpt-4o: ")
    assert lines[1].endswith(" tokens, counted by o200k_base")
    assert lines[3] == "    a window of 200, 50 asked of the answer, 150 for the request: it fits"
    assert "the model itself, which knows better, is not started" in lines[4]


def test_what_would_be_refused_is_said(directory: Path) -> None:
    done = run(directory, "-", given=json.dumps({"model": "embedding", "input": ["one", "two words " * 20]}))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        "    inputs 1, 41",
        "    a window of 8, 8 for each input: it would be refused (none)",
    ]


def test_prompts_have_the_window_each_for_itself(directory: Path) -> None:
    done = run(directory, "-", given=json.dumps({"model": "lab/gpt-4o", "prompt": ["one", "one", "one"]}))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "  lab/gpt-4o: 1 token, counted by o200k_base",
        "    prompts 1, 1, 1",
        "    its window is not known here",
    ]


def test_a_longer_answer_than_there_is_room_for_is_said(directory: Path) -> None:
    done = run(directory, "-", given=json.dumps({**CHAT, "max_tokens": 5000}))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3] == (
        "    a window of 200, 5,000 asked of the answer, 100 for the request: it fits; "
        "the answer would have 190 at most"
    )


def test_of_many_messages_their_number_and_their_sum_are_shown(directory: Path) -> None:
    done = run(directory, "-", given=json.dumps({**CHAT, "messages": CHAT["messages"] * 21}))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2] == "    messages 147 (21 of them); around 3"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("", "empty"),
        ("{", "JSON"),
        ("[]", "object"),
        ('{"model": "small"}', "'messages'"),
        ('{"model": "small", "messages": []}', "messages"),
        ('{"model": "smal", "prompt": "x"}', "Did you mean 'small'?"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_1(directory: Path, given: str, word: str) -> None:
    done = run(directory, "-", given=given)

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("gateway tokens: ")
    assert word in line


def test_a_file_that_is_not_there_is_named(directory: Path) -> None:
    done = run(directory, "nothing.json")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == ["gateway tokens: nothing.json: No such file or directory"]


def test_a_wrong_configuration_is_exit_code_78(directory: Path) -> None:
    (directory / "gateway.yaml").write_text("providers: {lab: {kind: nothing}}")

    done = run(directory, "-", given=json.dumps(CHAT))

    assert (done.returncode, done.stdout) == (78, "")
    assert "gateway.yaml" in done.stderr
