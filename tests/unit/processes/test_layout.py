"""What the configuration says of models becomes commands, and nothing runs for a provider that is off."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.config import parse
from gateway.processes.layout import Layout, lay_out
from gateway.rundir import model_socket, model_status


def layout_of(text: str, tmp_path: Path, **environ: str) -> Layout:
    config = parse(text, str(tmp_path / "gateway.yaml"), environ=environ)
    return lay_out(config, tmp_path / "run", date(2026, 11, 21))


def test_a_model_of_its_own_file_is_run_with_what_the_configuration_says(tmp_path: Path) -> None:
    text = """
providers:
  mine:
    kind: llamacpp
    engine: xllamacpp
    models:
      tiny: {path: files/tiny.gguf, classes: [embedding], embedding: true, threads: 3, parallel: 2, context_window: 512}
"""

    (plan,) = layout_of(text, tmp_path).models

    file, run_dir = tmp_path / "files" / "tiny.gguf", tmp_path / "run"
    assert plan.name == "mine/tiny"
    assert plan.file == file
    assert plan.status == model_status(run_dir, "mine", "tiny")
    assert plan.remedy == "check providers.mine.models.tiny.path."
    assert " ".join(plan.command).endswith(
        f"-m gateway.worker --model={file} --socket={model_socket(run_dir, 'mine', 'tiny')} --name=tiny"
        " --threads=3 --slots=2 --context-window=512 --engine=xllamacpp --max-waiting=32 --max-wait=120.0"
        " --too-long=refuse --embedding"
    )


def test_what_a_model_may_take_and_when_it_is_loaded_is_planned(tmp_path: Path) -> None:
    text = """
providers:
  mine: {kind: llamacpp, memory_mb: 900, models: {tiny: {path: t.gguf, load: first_use, keep_alive_seconds: 60}}}
  other: {kind: llamacpp, models: {tiny: {path: t.gguf}}}
"""

    layout = layout_of(text, tmp_path)

    mine, other = layout.models
    assert {"--memory-mb=900", "--keep-alive=60.0"} < set(mine.command)
    assert (mine.loads_at_start, mine.provider) == (False, "mine")
    assert (other.loads_at_start, other.provider) == (True, "other")
    assert layout.memory == {"mine": 900 * 1024 * 1024, "other": None}
    assert mine.socket == model_socket(tmp_path / "run", "mine", "tiny")


def test_no_value_is_taken_for_an_option(tmp_path: Path) -> None:
    text = "providers: {mine: {kind: llamacpp, models: {tiny: {path: '-h --embedding'}}}}\n"
    (plan,) = layout_of(text, tmp_path).models
    start = plan.command.index("gateway.worker") + 1

    assert all(word.startswith("--") for word in plan.command[start:])
    assert "--embedding" not in plan.command


def test_the_packaged_models_lie_in_the_data_directory(tmp_path: Path) -> None:
    text = "server: {data_dir: state}\nproviders: {local: {kind: llamacpp}}\n"

    chat, embedding = layout_of(text, tmp_path).models

    assert chat.file.is_relative_to(tmp_path / "state")
    assert chat.remedy == f"fetch it with: gateway models add smollm2 --data-dir {tmp_path / 'state'}"
    assert "--embedding" not in chat.command
    assert embedding.remedy == f"fetch it with: gateway models add minilm --data-dir {tmp_path / 'state'}"
    assert "--embedding" in embedding.command


def test_the_usual_data_directory_needs_no_mention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    chat, _ = layout_of("providers: {local: {kind: llamacpp}}\n", tmp_path).models

    assert chat.remedy == "fetch it with: gateway models add smollm2"


def test_hosted_providers_need_no_process(tmp_path: Path) -> None:
    text = 'providers: {lab: {kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: x}}\n'

    assert layout_of(text, tmp_path).models == ()


def test_workers_have_both_graces_to_end(tmp_path: Path) -> None:
    text = "server: {workers: 3, accept_grace_seconds: 2, grace_seconds: 5}\nproviders: {local: {kind: llamacpp}}\n"

    layout = layout_of(text, tmp_path)

    assert (layout.workers, layout.patience_seconds) == (3, 7.0)


def test_models_that_retire_are_warned_of_when_the_gateway_starts(tmp_path: Path) -> None:
    text = "providers: {openai: {api_key: x}}\nmodels: {old: {deployments: [openai/gpt-4]}}\n"

    warnings = layout_of(text, tmp_path).warnings

    assert warnings == ("model old: openai/gpt-4 was switched off on 2026-10-23 by its provider; choose another",)
