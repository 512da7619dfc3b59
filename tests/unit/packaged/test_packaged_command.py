"""`gateway models` looks like the other commands and tells in one line what it cannot read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.packaged import CATALOG


def gateway_models(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gateway", "models", *arguments], capture_output=True, text=True)


def test_its_help_is_plain_and_offers_no_shell_completion() -> None:
    said = gateway_models("--help").stdout

    assert "╭" not in said
    assert "completion" not in said


@pytest.mark.parametrize("arguments", [("list",), ("add", "smollm2")])
def test_a_model_that_cannot_be_read_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    model = CATALOG["smollm2"]
    unreadable = tmp_path / "models" / model.file
    unreadable.mkdir(parents=True)
    manifest = {"package_sha256": model.wheel_sha256, "size": unreadable.stat().st_size, "changed_ns": 0}
    unreadable.with_name(f"{model.file}.json").write_text(json.dumps(manifest))

    ended = gateway_models(*arguments, "--data-dir", str(tmp_path))

    assert ended.returncode == 1
    assert ended.stderr == f"gateway models: {unreadable}: Is a directory\n"
