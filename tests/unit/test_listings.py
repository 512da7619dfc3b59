"""`gateway routes` and `gateway providers`: what can be asked for, as a table and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.providers import presets

ROOT = Path(__file__).parents[2]
CONFIG = """
providers:
  anthropic: {api_key: "${ANTHROPIC_API_KEY:-}"}
  openai: {api_key: "${OPENAI_API_KEY:-}"}
models:
  old: {deployments: [openai/gpt-4]}
"""


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_routes_tell_of_each_deployment_what_is_known(file: str) -> None:
    done = run("routes", file, "--json", OPENAI_API_KEY="hush-1", ANTHROPIC_API_KEY="hush-2")

    assert done.returncode == 0, done.stderr
    rows: dict[str, Any] = {row["alias"]: row for row in json.loads(done.stdout)}
    assert list(rows) == ["small", "medium", "large", "embedding", "image", "old", "auto"]
    assert [found["deployment"].split("/")[0] for found in rows["small"]["deployments"]] == ["anthropic", "openai"]
    assert rows["old"]["deployments"] == [
        {
            "deployment": "openai/gpt-4",
            "context_window": 8192,
            "max_output_tokens": 4096,
            "input_usd_per_million": 30,
            "output_usd_per_million": 60,
            "retires": "2026-10-23",
            "has_key": True,
        }
    ]
    assert "hush" not in done.stdout


def test_routes_as_a_table_tell_the_same_and_why_a_class_is_missing(file: str) -> None:
    done = run("routes", file, ANTHROPIC_API_KEY="hush-2")

    lines = done.stdout.splitlines()
    small = next(line.split() for line in lines if line.startswith("small"))
    assert small[:4] == ["small", "anthropic/claude-haiku-5-5", "1,000,000", "128,000"]
    assert small[-1] == "yes"
    assert (
        "No provider that is on serves the class 'image'. To have it, switch on openai (OPENAI_API_KEY" in done.stdout
    )
    assert "hush" not in done.stdout


def test_routes_of_a_wrong_file_tell_its_mistakes(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("providers: {openia: }\n")

    done = run("routes", str(tmp_path / "gateway.yaml"))

    assert done.returncode == 78
    assert "did you mean 'openai'?" in done.stderr


def test_providers_lists_every_preset_and_whether_its_key_is_set() -> None:
    done = run("providers", "--json", GROQ_API_KEY="hush-3")

    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == set(presets.preset_names()) - set(presets.ALIASES)
    assert (rows["groq"]["has_key"], rows["openai"]["has_key"]) == (True, False)
    assert rows["together"]["also"] == ["llamacloud"]
    assert rows["heurist"]["classes"]["image"] == "FLUX.1-dev"
    assert "hush" not in done.stdout


def test_providers_as_a_table_names_the_variable_of_each_key() -> None:
    done = run("providers")

    assert done.returncode == 0
    for name in ("ANTHROPIC_API_KEY", "XAI_API_KEY", "REDPILL_API_KEY", "small: claude-haiku-5-5"):
        assert name in done.stdout
