"""What a file comes to when nothing is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from gateway.config import load, parse, resolve

DESIGN = """\
server:    {host: 127.0.0.1, port: 8080, workers: 1, data_dir: ./data}
auth:
  keys:
    - {name: app, key: "${APP_KEY}", role: user, models: ["*"], requests_per_minute: 600, usd_per_day: 5}
providers:
  openai:    {api_key: "${OPENAI_API_KEY:-}"}
  groq:      {api_key: "${GROQ_API_KEY:-}"}
  lab:       {kind: openai, base_url: "http://127.0.0.1:9000/v1", api_key: x}
  local:     {kind: llamacpp}
models:
  small:
    strategy: priority
    deployments:
      - {provider: lab, model: tiny-1, context_window: 8192, max_output_tokens: 1024, settings: {temperature: 0.6}}
      - local/small
    truncation: drop_oldest
    timeouts: {connect_seconds: 5, first_event_seconds: 60, between_events_seconds: 60, total_seconds: 1800}
embeddings:
  cache: {memory: {max_mb: 64, ttl_seconds: 300}, disk: {max_mb: 2048, ttl_seconds: 2592000}, redis: {}}
redis:     {url: "${REDIS_URL:-}"}
store:     {url: "sqlite:///data/gateway.db"}
"""


def test_a_file_with_every_section_loads() -> None:
    config = parse(DESIGN, "gateway.yaml", environ={"APP_KEY": "k", "OPENAI_API_KEY": "o"})

    assert list(config.providers) == ["openai", "groq", "lab", "local"]
    assert config.notes == ("providers that are off: groq (GROQ_API_KEY is empty)",)


def test_what_has_no_effect_yet_is_warned_of_once_for_each_place() -> None:
    config = parse(DESIGN, "gateway.yaml", environ={"APP_KEY": "k"})

    assert config.warnings == tuple(
        f"gateway.yaml:{place}: accepted, has no effect in this version"
        for place in (
            "4: auth.keys[0].requests_per_minute",
            "4: auth.keys[0].usd_per_day",
            "21: store.url",
        )
    )


def test_the_password_of_a_redis_is_kept(load_text) -> None:
    config = load_text("providers: {ollama: }\nredis: {url: 'redis://:hush@h:6379'}")

    assert config.warnings == ()
    assert "hush" not in repr(config)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "gateway.yaml"
    text = (
        b"{server: {data_dir: ../data}, providers: {l: {kind: llamacpp, models: {a: {path: m/a.gguf}, b: {path: /b}}}}}"
    )

    config = load(file, text=text, environ={})

    models = config.providers["l"].models  # type: ignore[union-attr]  # it is the llamacpp kind
    assert config.server.data_dir == tmp_path / "data"
    assert [model.path for model in models.values()] == [str(tmp_path / "etc/m/a.gguf"), "/b"]


def test_the_usual_data_directory_lies_beside_the_file(tmp_path: Path) -> None:
    config = load(tmp_path / "gateway.yaml", text=b"providers: {ollama: }", environ={})

    assert config.server.data_dir == tmp_path / "data"


def test_the_command_line_wins_over_the_file(load_text) -> None:
    config = load_text("server: {host: localhost, port: 1}\nproviders: {ollama: }", host="127.0.0.2", port=2)

    assert (config.server.host, config.server.port) == ("127.0.0.2", 2)


def test_a_host_of_the_command_line_needs_keys_as_well(complain) -> None:
    lines = complain("providers: {ollama: }", host="::")

    assert lines == [
        "gateway.yaml:1: auth.keys: at least one key is needed to listen on '::'; "
        "without keys the gateway stays on 127.0.0.1"
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_a_loopback_host_needs_no_key(load_text, host: str) -> None:
    config = load_text("providers: {ollama: }", host=host)

    assert config.server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com", "localhost.example.com"])
def test_any_other_host_works_with_a_key(load_text, host: str) -> None:
    config = load_text("providers: {ollama: }\nauth: {keys: [{name: a, key: b}]}", host=host)

    assert config.server.host == host


def test_a_configuration_cannot_be_changed(load_text) -> None:
    config = load_text("providers: {ollama: }")

    with pytest.raises(ValidationError):
        config.file = "other"


def test_every_secret_is_known_for_redaction(load_text) -> None:
    config = load_text("""\
        auth: {keys: [{name: a, key: key-a}]}
        providers:
          openai: {api_key: key-o, headers: {X-Org: key-h}}
          ollama: {}
        redis: {url: redis://r}
        store: {url: sqlite://s}
    """)

    assert config.secrets() == ["key-a", "key-o", "key-h", "redis://r", "sqlite://s"]


def test_a_key_with_a_line_break_at_its_end_is_trimmed(load_text) -> None:
    config = load_text("providers: {openai: {api_key: '${K}'}}", {"K": "key\n"})

    assert config.providers["openai"].api_key == SecretStr("key")


def test_permissions_may_name_what_is_switched_off(load_text) -> None:
    config = load_text("""\
        auth: {keys: [{name: a, key: b, models: [small, image, openai/gpt, openai/small, local/minilm, local/small]}]}
        providers: {openai: {}, local: {kind: llamacpp}}
    """)

    assert len(config.auth.keys[0].models) == 6


def test_a_way_with_long_inputs_reaches_the_route_of_an_alias_that_embeds(load_text) -> None:
    config = load_text("providers: {ollama: }\nmodels: {v: {deployments: [ollama/x], truncation: mean_pool}}")

    plan = resolve(config).plan

    assert plan.routes["v"].truncation == "mean_pool"
    assert config.warnings == ()
