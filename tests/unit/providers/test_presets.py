"""The shipped presets are whole, and nothing but the one asked for is read."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from gateway.mistakes import ConfigError
from gateway.providers import presets
from gateway.providers.presets import ALIASES, Preset, parse_preset, preset_names, read_preset

FOLDER = Path(presets.__file__).parent
KEYED = {
    "anthropic", "azure", "deepseek", "google", "groq", "heurist", "mistral", "openai", "openrouter", "redpill",
    "together", "xai",
}  # fmt: skip
BY_ACCOUNT = {"bedrock", "claude_vertex"}
OWN = {"lmstudio", "ollama", "vllm"}
UNLISTED = {"heurist"}  # no price map knows it, so its names could not be compared
SEEDS = {
    "openai", "anthropic", "claude_vertex", "grok", "groq", "llamacloud", "llamalocal", "google", "redpill",
    "openrouter", "heurist",
}  # fmt: skip


def get(name: str) -> Preset:
    preset = read_preset(name)
    assert preset is not None
    return preset


def test_every_file_is_a_preset_and_every_preset_a_file() -> None:
    files = {file.stem for file in FOLDER.glob("*.yaml")}

    assert files == KEYED | BY_ACCOUNT | OWN | {"llamalocal"}
    assert set(preset_names()) == files | set(ALIASES)
    assert set(preset_names()) >= SEEDS


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_whole(name: str) -> None:
    preset = get(name)

    assert preset.checked >= date(2026, 11, 21) or name in UNLISTED
    if preset.base_url is not None:
        assert preset.base_url.startswith("http://127.0.0.1:" if name in OWN else "https://")


@pytest.mark.parametrize("name", sorted(KEYED | BY_ACCOUNT))
def test_a_hosted_preset_serves_text_once_its_account_is_known(name: str) -> None:
    preset = get(name)

    assert preset.needs_key == (name in KEYED)
    assert preset.needs_key or preset.needs
    assert {"small", "medium", "large"} <= set(preset.classes)


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_server_of_ones_own_needs_no_key_and_has_no_models_yet(name: str) -> None:
    preset = get(name)

    assert not preset.needs_key
    assert preset.classes == {}


@pytest.mark.parametrize("name", preset_names())
def test_no_class_is_served_by_a_model_that_retires_within_60_days_of_the_check(name: str) -> None:
    preset = get(name)

    days = [preset.models[model].retires for model in preset.classes.values() if model in preset.models]
    assert all(day is None or day - preset.checked > timedelta(days=60) for day in days)


@pytest.mark.parametrize("name", ["azure", "openai"])
def test_the_classes_take_tools_on_chat_completions(name: str) -> None:
    text = [model for class_name, model in get(name).classes.items() if class_name in ("small", "medium", "large")]

    # From gpt-5.5 on they reason unasked, and are refused tools while they do.
    assert [model for model in text if model.startswith(("gpt-5.5", "gpt-5.6", "gpt-6"))] == []
    assert len(set(text)) == 3


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "openai",
            (128_000, 8192, {"stop": [], "frequency_penalty": 0, "presence_penalty": 0, "temperature": 0.6}, {}),
        ),
        (
            "anthropic",
            (
                200_000,
                8192,
                # Its wire wants a longest answer, so the limit is said.
                {"stop": [], "frequency_penalty": 0, "presence_penalty": 0, "temperature": 0.3, "max_tokens": 8192},
                {},
            ),
        ),
        (
            "llamalocal",
            (32_768, 8192, {"stop": ["<|eot_id|>", "<|eom_id|>"], "repetition_penalty": 0, "temperature": 0.3}, {}),
        ),
        ("heurist", (32_768, 8192, {"stop": [], "repetition_penalty": 0, "temperature": 0.7}, {"steps": 20})),
    ],
)
def test_the_settings_of_the_framework_it_comes_from_are_kept(name: str, fields: object) -> None:
    preset = get(name)

    found = (preset.max_input_tokens, preset.max_output_tokens, preset.settings, preset.image_settings)
    assert found == fields


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("needs_key: true\nchecked: 2026-11-21\nclasses: {}\n", ":0: a preset"),
        ("wire: smoke\nneeds_key: true\nchecked: 2026-11-21\nclasses: {}\n", ":1: wire: "),
        ("base_url: https://h\nneeds_key: true\nchecked: 2026-11-21\nclasses:\n  huge: x\n", ":5: classes.huge"),
        ("base_url: https://h\nneeds_key: true\nchecked: [\n", "not valid YAML"),
        ("base_url: https://h\nneeds_key: true\nchecked: 2026-99-99\nclasses: {}\n", "not valid YAML"),
        ("base_url: https://h\nneeds_key: \x00\n", "not valid YAML"),
        ("base_url: https://h\nneeds: x\nneeds_key: true\nchecked: 2026-11-21\nclasses: {}\n", "one of its options"),
        ("prefix: x\nbase_url: https://h\nneeds_key: true\nchecked: 2026-11-21\nclasses: {}\n", "a prefix goes"),
    ],
)
def test_a_malformed_preset_is_told_with_its_file_and_line(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        parse_preset(file)

    assert str(caught.value).startswith(str(file))
    assert told.removeprefix(":0: ") in str(caught.value)


def test_an_alias_is_the_preset_it_stands_for() -> None:
    assert read_preset("grok") == read_preset("xai")


@pytest.mark.parametrize("name", ["", "unknown", "../openai", "openai.yaml", "__init__"])
def test_other_names_are_no_preset(name: str) -> None:
    assert read_preset(name) is None
