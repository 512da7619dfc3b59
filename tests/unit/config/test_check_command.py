"""`gateway check` prints what a configuration comes to, or what is wrong with it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.check import check, describe
from gateway.config import resolve
from gateway.packaged import Wish, register
from tests.unit.worker.headers import whole


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command("check")(check)
    return app


def test_a_good_file_ends_with_0(command, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {vllm: {classes: {small: qwen}}}\n")

    result = CliRunner().invoke(command, [str(file)])

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{file}: in order",
        "server:",
        f"  listens on 127.0.0.1 port 8080, 1 process; data in {tmp_path}/data",
        "keys:",
        "  none: whoever is on this machine may call",
        "providers:",
        "  vllm: on, http://127.0.0.1:8000/v1, without a key",
        "models:",
        "  small:",
        "    1. vllm/qwen",
        "  vllm/…: any model of vllm, by its own name",
    ]


def test_mistakes_go_to_standard_error_and_end_with_78(command, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {vllm: {api_kye: hush}}\nserver: {port: abc}\n")

    result = CliRunner().invoke(command, [str(file)])

    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{file}:1: providers.vllm.api_kye: unknown key; did you mean 'api_key'?",
        f"{file}:2: server.port: expected an integer from 0 to 65535, got 'abc'",
    ]


def test_a_file_that_is_not_there_ends_with_78(command, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "none.yaml")])

    assert result.exit_code == 78
    assert result.stderr == f"{tmp_path}/none.yaml: there is no such file\n"


def test_secrets_are_masked(load_text) -> None:
    config = load_text("""\
        auth: {keys: [{name: app, key: hush-key-1, models: [small]}]}
        providers:
          openai: {api_key: hush-key-2, headers: {X-Org: hush-key-3}, settings: {auth_token: 4, note: hush-key-4, seed: 5}}
    """)

    text = "\n".join(describe(config, resolve(config)))

    assert "hush" not in text
    assert f"app: user, models small, sha256 ends in {sha256(b'hush-key-1').hexdigest()[-4:]}" in text
    assert "openai: on, https://api.openai.com/v1, with a key, headers X-Org" in text
    assert "(auth_token, note, seed=5)" in text


def test_what_is_off_and_what_has_no_effect_is_said(load_text) -> None:
    config = load_text("""\
        providers: {groq: }
        models: {chat: {deployments: [groq/small]}}
        store: {url: "postgresql://db/gateway"}
    """)

    lines = list(describe(config, resolve(config)))

    assert "  groq: off, GROQ_API_KEY is empty" in lines
    assert lines[lines.index("warnings:") + 1 :] == [
        "  gateway.yaml:3: store.url: accepted, has no effect in this version",
        "  model chat is off: groq is off",
        "  no model can be served: no provider that is on serves a class, and `models` names none",
    ]


def test_timeouts_that_are_not_the_usual_ones_are_told(load_text) -> None:
    config = load_text(
        "providers: {ollama: }\nmodels: {a: {deployments: [ollama/x], timeouts: {connect_seconds: 0.5}}}"
    )

    lines = list(describe(config, resolve(config)))

    assert "    1. ollama/x (connect_seconds=0.5)" in lines


def test_a_local_model_is_missing_broken_or_there(load_text, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"nonsense")
    config = load_text(f"""\
        server: {{data_dir: {tmp_path}}}
        providers: {{local: {{kind: llamacpp, models: {{minilm: , mine: {{path: {broken}}}}}}}}}
    """)

    lines = list(describe(config, resolve(config)))
    told = lines[lines.index("local models:") + 1 :]

    assert "  local/minilm, local/mine" in lines
    assert told[0].startswith(
        f"  local/minilm: {tmp_path}/models/minilm.gguf is missing; fetch it with: gateway models add"
    )
    assert told[1].startswith(f"  local/mine: {broken} cannot be used: ")
    assert told[1].endswith("not a GGUF file")


def test_a_local_model_that_is_not_the_one_that_was_added_is_said(load_text, tmp_path: Path) -> None:
    file = tmp_path / "models" / "mine.gguf"
    file.parent.mkdir()
    file.write_bytes(whole())
    register(Wish(str(file)), file.parent, {})
    config = load_text(f"""\
        server: {{data_dir: {tmp_path}}}
        providers: {{local: {{kind: llamacpp, models: {{mine: {{path: {file}}}}}}}}}
    """)

    before = list(describe(config, resolve(config)))
    file.write_bytes(whole() + bytes(16))
    after = list(describe(config, resolve(config)))

    assert f"  local/mine: {file}" in before
    assert f"  local/mine: {file}" not in after
    assert any(line.startswith("  local/mine: mine: ") for line in after)


def test_where_the_key_of_a_provider_is_from_is_said(load_text) -> None:
    keys = "aws_access_key_id: AK, aws_secret_access_key: hush"
    config = load_text(f"""\
        providers:
          own: {{kind: litellm, prefix: bedrock, options: {{aws_region_name: eu-west-1, {keys}}}}}
          ambient: {{kind: litellm, prefix: bedrock, options: {{aws_region_name: eu-west-1}}}}
          near: {{kind: litellm, prefix: vertex_ai, base_url: "http://127.0.0.1:9/v1"}}
          bearer: {{kind: litellm, prefix: bedrock, api_key: hush}}
    """)

    text = "\n".join(describe(config, resolve(config)))

    assert "own: on, its own endpoint, with the account in its options" in text
    assert "ambient: on, its own endpoint, with the account of this machine" in text
    assert "near: on, http://127.0.0.1:9/v1, without a key" in text
    assert "bearer: on, its own endpoint, with a key" in text
