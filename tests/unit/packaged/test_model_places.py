"""Where the configuration finds models that were added, and what it says of those that were not."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

import pytest

from gateway.config import parse
from gateway.config.document import CLASSES, NAME_PATTERN
from gateway.mistakes import ConfigError
from gateway.packaged import Wish, register
from gateway.packaged.adding import RESERVED, default_name
from gateway.packaged.records import NAME_PATTERN as PLAIN_NAME_PATTERN
from gateway.packaged.verified import BAD_MODEL
from gateway.processes.layout import Layout, lay_out
from gateway.worker import EXIT_BAD_MODEL
from tests.unit.packaged.test_packaged_surroundings import ROOT, python_without
from tests.unit.worker.headers import whole

SOURCE = "hf:owner/repo/tiny.gguf"
SCRIPT = """
import sys
from pathlib import Path
from gateway.packaged import PackagedModelError, Wish, register
try:
    register(Wish("hf:owner/repo/tiny.gguf"), Path(sys.argv[1]), {})
except PackagedModelError as error:
    print(error)
"""


def layout_of(models: str, directory: Path) -> Layout:
    text = f"providers: {{local: {{kind: llamacpp, models: {models}}}}}\n"
    return lay_out(parse(text, str(directory / "gateway.yaml"), environ={}), directory / "run", date(2026, 11, 21))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "files" / "tiny.gguf"
    file.parent.mkdir()
    file.write_bytes(whole())
    register(Wish(str(file), "mine"), tmp_path / "data" / "models", {})
    return file


def test_an_added_model_needs_no_path_and_is_verified_before_it_runs(tmp_path: Path, tiny: Path) -> None:
    (plan,) = layout_of("{mine: {}}", tmp_path).models

    start = plan.command.index("gateway.packaged.verified")
    assert plan.file == tiny
    assert plan.command[start + 1 : start + 5] == (
        str(tmp_path / "data" / "models"),
        "mine",
        "gateway.worker",
        f"--model={tiny}",
    )
    assert plan.remedy.startswith(f"put it back, or add it again with: gateway models add {tiny} --name mine")


def test_a_model_of_the_hub_is_found_by_what_it_was_added_by(tmp_path: Path, tiny: Path) -> None:
    record = tmp_path / "data" / "models" / "mine.gguf.json"
    record.write_text(record.read_text().replace(f'"source": "{tiny}"', f'"source": "{SOURCE}"'))

    (plan,) = layout_of(f"{{other: {{path: '{SOURCE}'}}}}", tmp_path).models

    assert plan.file == tiny
    assert "mine" in plan.command


def test_a_model_of_the_hub_that_was_not_added_is_missing_and_told_how_to_get(tmp_path: Path) -> None:
    (plan,) = layout_of(f"{{other: {{path: '{SOURCE}'}}}}", tmp_path).models

    assert not plan.file.exists()
    assert plan.remedy == (
        f"fetch it with: gateway models add {SOURCE} --data-dir {tmp_path / 'data'}, then start the gateway again"
    )


def test_a_damaged_record_is_told_of_when_the_model_runs(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "data" / "models" / "mine.gguf.json").write_text("{")

    (plan,) = layout_of("{mine: {}}", tmp_path).models

    assert "gateway.packaged.verified" in plan.command


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ("{nobody: {}}", "models.nobody.path: is missing, and no packaged or added model has this name"),
        ("{a: {path: 'hf:owner/repo'}}", "models.a.path: expected hf:owner/repo/file.gguf"),
        ("{a: {path: 'hf:owner/repo/../x.gguf'}}", "models.a.path: expected hf:owner/repo/file.gguf"),
        ("{'../up': {}}", "expected a name that begins with a letter or digit"),
    ],
)
def test_what_cannot_be_found_is_a_mistake_of_the_configuration(tmp_path: Path, models: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        layout_of(models, tmp_path)

    assert told in str(raised.value)


def test_names_and_codes_are_those_of_the_other_rooms() -> None:
    assert f"^{PLAIN_NAME_PATTERN}$" == NAME_PATTERN
    assert set(RESERVED) == {*CLASSES, "auto"}
    assert BAD_MODEL == EXIT_BAD_MODEL


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/a/b/My Model (1).gguf", "My-Model-1-"),
        ("/a/big-00001-of-00003.gguf", "big"),
        ("hf:owner/repo/folder/x.Q4_0.gguf", "x.Q4_0"),
        ("ollama:user/name:7b", "user-name-7b"),
        ("ollama:name:latest", "name"),
        ("/a/...gguf", "model"),
        ("/a/" + "x" * 90 + ".gguf", "x" * 64),
    ],
)
def test_a_model_without_a_name_is_called_like_its_file(source: str, name: str) -> None:
    assert default_name(source) == name


def test_a_missing_extra_is_one_line(tmp_path: Path) -> None:
    python = python_without(tmp_path / "venv", "huggingface_hub")

    ended = subprocess.run(
        [python, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )

    assert ended.stdout == f"{SOURCE}: needs huggingface_hub (pip install 'one-gateway[hub]')\n", ended.stderr
