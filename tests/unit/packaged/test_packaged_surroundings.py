"""Fetching with a Python that lacks something, and the real models."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gateway.packaged import CATALOG
from gateway.packaged.unpack import digest_of
from tests.unit.packaged.tiny_packages import bert_files, build_wheel

ROOT = Path(__file__).parents[3]
# What the catalogue's package gives with the versions of constraints.txt; another gguf may write other bytes.
CONVERTED_SHA256 = "cd83687e93eb6897553eced6fbf7a80466eb5ec35ab356add9573b45b4e5ccd4"
SCRIPT = """
import sys
from pathlib import Path
from gateway.packaged import Member, PackagedModelError, add
from tests.unit.packaged.lean import describe
wheel = Path(sys.argv[1])
try:
    add("tiny", wheel.parent / "models", catalog={"tiny": describe(wheel)},
        pip_arguments=("--no-index", "--find-links", str(wheel.parent)))
except PackagedModelError as error:
    print(error)
"""


def python_without(directory: Path, *packages: str) -> Path:
    """Make an environment that has everything this one has, but `packages`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = directory / "lib" / version / "site-packages"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(packages) and not (libraries / entry.name).exists():
            (libraries / entry.name).symlink_to(entry)
    return directory / "bin" / "python"


@pytest.mark.parametrize(
    ("missing", "told"),
    [(("pip",), "pip is not installed for"), (("gguf", "numpy"), "converting needs numpy and gguf (pip install")],
    ids=["pip", "local extra"],
)
def test_what_is_missing_is_one_line(tmp_path: Path, missing: tuple[str, ...], told: str) -> None:
    python = python_without(tmp_path / "venv", *missing)
    wheel = build_wheel(tmp_path, {f"tiny_model/{name}": raw for name, raw in bert_files().items()})

    ended = subprocess.run(
        [python, "-c", SCRIPT, str(wheel)], capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )

    assert told in ended.stdout, ended.stderr
    assert ended.stdout.count("\n") == 1


def test_the_real_models_are_the_known_ones(chat_gguf: Path, embedding_gguf: Path) -> None:
    assert digest_of(chat_gguf) == CATALOG["smollm2"].members[0].sha256
    assert digest_of(embedding_gguf) == CONVERTED_SHA256
    assert chat_gguf.stat().st_size == CATALOG["smollm2"].file_size
    assert embedding_gguf.stat().st_size == CATALOG["minilm"].file_size


def test_the_command_finds_models_that_are_there(tmp_path: Path, chat_gguf: Path, embedding_gguf: Path) -> None:
    assert chat_gguf.parent == embedding_gguf.parent
    (tmp_path / "models").symlink_to(chat_gguf.parent.resolve())

    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "models", "add", "smollm2", "minilm", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    names = ("smollm2", "minilm")
    assert ended.stdout == "".join(f"{name}: ready, {tmp_path}/models/{name}.gguf\n" for name in names), ended.stderr
