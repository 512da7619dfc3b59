"""The shipped presets are whole, and nothing but the one asked for is read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.providers import presets
from gateway.providers.presets import ALIASES, preset_names, read_preset

FOLDER = Path(presets.__file__).parent
HOSTED = {"deepseek", "groq", "mistral", "openai", "openrouter", "together", "xai"}
OWN = {"lmstudio", "ollama", "vllm"}


def test_every_file_is_a_preset_and_every_preset_a_file() -> None:
    files = {file.stem for file in FOLDER.glob("*.yaml")}

    assert files == HOSTED | OWN
    assert set(preset_names()) == files | set(ALIASES)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_whole(name: str) -> None:
    preset = read_preset(name)

    assert preset is not None
    assert preset.checked >= date(2026, 11, 21)
    assert preset.base_url.startswith("https://" if ALIASES.get(name, name) in HOSTED else "http://127.0.0.1:")


@pytest.mark.parametrize("name", sorted(HOSTED))
def test_a_hosted_preset_needs_a_key_and_serves_text(name: str) -> None:
    preset = read_preset(name)

    assert preset is not None
    assert preset.needs_key
    assert preset.env == f"{name.upper()}_API_KEY"
    assert {"small", "medium", "large"} <= set(preset.classes)


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_server_of_ones_own_needs_no_key_and_has_no_models_yet(name: str) -> None:
    preset = read_preset(name)

    assert preset is not None
    assert not preset.needs_key
    assert preset.classes == {}


def test_an_alias_is_the_preset_it_stands_for() -> None:
    assert read_preset("grok") == read_preset("xai")


@pytest.mark.parametrize("name", ["", "unknown", "../openai", "openai.yaml", "__init__"])
def test_other_names_are_no_preset(name: str) -> None:
    assert read_preset(name) is None
