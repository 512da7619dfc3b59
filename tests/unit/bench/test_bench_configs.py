from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.canned import API_KEY, REQUESTS
from bench.configs import GATEWAY_COMMAND, RAW_COMMAND, command, gateway_config, nginx_config
from gateway.config import parse, resolve


def test_the_generated_configuration_is_one_the_gateway_takes(tmp_path: Path) -> None:
    text = gateway_config("http://127.0.0.1:9000/v1", tmp_path, workers=2)

    config = parse(text, str(tmp_path / "gateway.yaml"), environ={})

    assert config.server.workers == 2
    assert config.auth.keys[0].key.get_secret_value() == API_KEY


def test_every_model_that_is_asked_for_is_configured(tmp_path: Path) -> None:
    text = gateway_config("http://127.0.0.1:9000/v1", tmp_path)

    aliases = resolve(parse(text, str(tmp_path / "gateway.yaml"), environ={})).plan.routes

    for request in REQUESTS:
        assert any(f'"model":"{alias}"'.encode() in request.body for alias in aliases)


def test_nginx_passes_on_to_the_upstream_over_kept_connections() -> None:
    text = nginx_config(9000, 9001)

    assert "server 127.0.0.1:9000; keepalive" in text
    assert "listen 127.0.0.1:9001;" in text
    assert text.count("{") == text.count("}")


def test_a_command_is_filled_in_word_by_word() -> None:
    found = command(RAW_COMMAND, upstream="http://a b/v1", port=1)

    assert found == [sys.executable, "-m", "bench.raw", "--upstream", "http://a b/v1", "--port", "1"]


def test_the_gateways_command_is_the_one_beside_this_interpreter() -> None:
    found = command(GATEWAY_COMMAND, config="c.yaml", port=1)

    assert found == [str(Path(sys.executable).parent / "gateway"), "serve", "--config", "c.yaml", "--port", "1"]


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(KeyError):
        command("{nowhere}")
