"""Models that are switched off, or soon will be, are told of by name and day."""

from __future__ import annotations

from datetime import date

import pytest

from gateway.config import resolve, warn_of_retirement

TEXT = """
providers:
  lab:
    kind: openai
    base_url: https://h
    classes: {{small: s-1}}
    models: {{s-1: {{retires: {day}}}}}
"""
TODAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("day", "told"),
    [
        ("2026-11-20", "was switched off on 2026-11-20"),
        ("2026-11-21", "was switched off on 2026-11-21"),
        ("2026-11-22", "will be switched off on 2026-11-22"),
        ("2027-01-20", "will be switched off on 2027-01-20"),
        ("2027-01-21", ""),
    ],
)
def test_sixty_days_before_it_the_warnings_begin(load_text, day: str, told: str) -> None:
    resolved = resolve(load_text(TEXT.format(day=day)))

    lines = list(warn_of_retirement(resolved, TODAY))

    assert lines == ([f"model small: lab/s-1 {told} by its provider; choose another"] if told else [])


def test_a_model_that_serves_several_aliases_is_told_of_once(load_text) -> None:
    config = load_text(TEXT.format(day="2026-01-01") + "models: {a: {deployments: [lab/s-1, lab/s-1]}}")

    assert len(list(warn_of_retirement(resolve(config), TODAY))) == 1


def test_a_configured_model_that_no_preset_describes_is_looked_up_in_the_price_map(load_text) -> None:
    config = load_text("providers: {anthropic: {api_key: x, classes: {small: claude-mythos-preview}}}")

    lines = list(warn_of_retirement(resolve(config), TODAY))

    assert len(lines) == 1
    assert lines[0].startswith("model small: anthropic/claude-mythos-preview was switched off on 2026-")


def test_a_provider_is_looked_up_under_its_own_name_in_the_map_whatever_the_entry_is_called(load_text) -> None:
    config = load_text("""
        providers:
          mine: {kind: together, api_key: x, classes: {small: meta-llama/Llama-3.3-70B-Instruct-Turbo}}
          lab: {kind: openai, base_url: 'http://127.0.0.1:9/v1', classes: {medium: gpt-4}}
          openai: {api_key: x, classes: {large: gpt-4}, models: {gpt-4: {context_window: 5}}}
    """)

    lines = list(warn_of_retirement(resolve(config), TODAY))

    assert [line.split(" ")[2] for line in lines] == ["mine/meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-4"]


def test_the_shipped_classes_are_alive(load_text) -> None:
    names = ["openai", "anthropic", "google", "xai", "groq", "together", "mistral", "deepseek"]
    config = load_text("providers:\n" + "".join(f"  {name}: {{api_key: x}}\n" for name in names))

    assert list(warn_of_retirement(resolve(config), TODAY)) == []


@pytest.mark.parametrize(
    "entry",
    [
        "anthropic: {api_key: x, classes: {small: claude-3-7-sonnet-20250219}}",
        "gemini: {api_key: x, classes: {small: gemini-2.0-flash}}",
        "openai: {api_key: x, classes: {small: gpt-5-mino}}",
        "openai: {api_key: x, classes: {small: 'ft:gpt-5-mino:acme::abc123'}}",
        "together: {api_key: x, classes: {small: meta-llama/Llama-9-mini}}",
    ],
)
def test_a_model_that_is_in_no_list_of_its_provider_may_be_gone_long_ago(load_text, entry: str) -> None:
    lines = list(warn_of_retirement(resolve(load_text(f"providers: {{{entry}}}")), TODAY))

    assert len(lines) == 1
    assert "is in no list of its provider's models; look whether it is switched off, or misspelt" in lines[0]


@pytest.mark.parametrize(
    "entry",
    [
        "openai: {api_key: x, base_url: 'http://127.0.0.1:9/v1', classes: {small: own}}",
        "anthropic: {api_key: x, base_url: 'http://127.0.0.1:9', classes: {small: own}}",
        "anthropic: {api_key: x, classes: {small: own}, models: {own: {input_usd: 1}}}",
        "lab: {kind: openai, base_url: 'http://127.0.0.1:9/v1', classes: {small: own}}",
        "azure: {api_key: x, base_url: 'http://127.0.0.1:9', classes: {small: own, medium: '', large: '', image: ''}}",
        "bedrock: {api_key: x, options: {aws_region_name: eu-west-1}, classes: {small: 'arn:aws:bedrock:eu:1:x/y'}}",
        "bedrock: {api_key: x, options: {aws_region_name: eu-west-1}, classes: {small: 'llama/arn:aws:bedrock:eu:1:x/y'}}",
        "openai: {api_key: x, classes: {small: 'ft:gpt-4.1-mini-2025-04-14:acme::abc123'}}",
        "mistral: {api_key: x, classes: {small: 'ft:mistral-small-latest:587a6b29:20240514:7e773925'}}",
        "together: {api_key: x, classes: {small: acme/Meta-Llama-3.1-8B-Instruct-my-ft-abc}}",
        "gemini: {api_key: x, classes: {small: tunedModels/own}}",
    ],
)
def test_names_that_their_operator_gave_are_in_no_list_and_not_warned_of(load_text, entry: str) -> None:
    assert list(warn_of_retirement(resolve(load_text(f"providers: {{{entry}}}")), TODAY)) == []


def test_a_region_before_a_name_is_no_other_model(load_text) -> None:
    model = "us-east-1/anthropic.claude-haiku-4-5-20251001-v1:0"
    entry = f"bedrock: {{api_key: x, options: {{aws_region_name: us-east-1}}, classes: {{small: '{model}'}}}}"

    assert list(warn_of_retirement(resolve(load_text(f"providers: {{{entry}}}")), TODAY)) == []
