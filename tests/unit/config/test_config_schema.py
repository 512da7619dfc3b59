"""The schema that editors use is current, and what the repository ships obeys it and loads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from gateway.config import load, resolve
from gateway.config.schema import main, schema

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "config" / "gateway.schema.json"
FILES = [ROOT / "gateway.yaml", *sorted((ROOT / "config").glob("*.yaml"))]
KEYS = {
    name: f"key-{name}" for name in ("APP_KEY", "NOTEBOOK_KEY", "MONITORING_KEY", "OPENAI_API_KEY", "MISTRAL_API_KEY")
}


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_the_schema_in_the_repository_is_current(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.json"

    main([str(fresh)])

    assert fresh.read_text(encoding="utf-8") == SCHEMA.read_text(encoding="utf-8"), "run: make schema"


def test_make_writes_the_schema_of_the_repository() -> None:
    said = subprocess.run(["make", "-n", "schema"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert any(
        line.endswith("-m gateway.config.schema config/gateway.schema.json") for line in said.stdout.splitlines()
    )


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_shipped_file_loads_without_a_warning(file: Path) -> None:
    config = load(file, environ=KEYS)

    assert config.warnings == ()
    assert {"small", "medium", "large", "embedding"} <= set(resolve(config).plan.routes)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_shipped_file_obeys_the_schema_and_names_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")

    assert (file.parent / named).resolve() == SCHEMA
    assert [error.message for error in validator().iter_errors(yaml.safe_load(text))] == []


def test_the_shipped_default_needs_no_account() -> None:
    config = load(ROOT / "gateway.yaml", environ={})

    assert list(resolve(config).providers) == ["local"]
    assert (config.server.host, config.server.port, config.auth.keys) == ("127.0.0.1", 8080, ())


def test_a_key_in_the_environment_puts_its_provider_in_front() -> None:
    config = load(ROOT / "gateway.yaml", environ={"OPENAI_API_KEY": "k"})

    first = {alias: route.deployments[0].provider for alias, route in resolve(config).plan.routes.items()}
    assert set(first.values()) == {"openai"}


@pytest.mark.parametrize(
    "text",
    [
        "providers: {ollama: , llamacpp: , openai: {kind: openai}, more: {kind: groq, api_key: x}}",
        "{server: {port: '${PORT:-80}'}, models: , providers: {vllm: {streams_usage: '${S}'}}}",
        "{providers: {l: {kind: llamacpp, models: {smollm2: , a: {path: a, threads: '${T}'}}}}}",
        "{providers: {ollama: }, models: {a: {strategy: '${S}', deployments: [ollama/a/b, {provider: a, model: b}]}}}",
    ],
)
def test_the_schema_allows_what_loads(text: str) -> None:
    assert [error.message for error in validator().iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "providers: {unknown: {}}",
        "providers: {unknown: {api_key: x, base_url: 'http://h'}}",
        "providers: {openai: {api_kye: x}}",
        "providers: {a: {kind: anthropics}}",
        "providers: {lab: {kind: openai, api_key: x}}",
        "providers: {a: {kind: llamacpp, models: {'-x': {path: a}}}}",
        "providers: {a: {kind: llamacpp, base_url: x}}",
        "{providers: {ollama: }, server: {port: '80'}}",
        "{providers: {ollama: }, server: {port: 70000}}",
        "{providers: {ollama: }, models: {a: {deployments: [ollama]}}}",
        "{providers: {ollama: }, models: {a: {deployments: []}}}",
        "{providers: {ollama: }, models: {a: {strategy: random, deployments: [ollama/x]}}}",
        "{providers: {ollama: {classes: {huge: x}}}}",
    ],
)
def test_the_schema_refuses_what_does_not_load(text: str) -> None:
    assert not validator().is_valid(yaml.safe_load(text))
