"""What a provider's entry comes to with the preset it takes over."""

from __future__ import annotations

import pytest

from gateway.providers import LlamaCppSettings
from gateway.providers.presets import read_preset


def test_the_name_of_a_preset_needs_no_kind(load_text) -> None:
    config = load_text("providers: {groq: {api_key: k}}")

    groq, preset = config.providers["groq"], read_preset("groq")
    assert preset is not None
    assert (groq.kind, groq.base_url, groq.classes) == ("openai", preset.base_url, preset.classes)


def test_a_kind_may_be_a_preset(load_text) -> None:
    config = load_text("providers: {openai: {kind: openai, api_key: k}, third: {kind: grok, api_key: k}}")

    assert config.providers["openai"].base_url == "https://api.openai.com/v1"
    assert config.providers["third"].base_url == "https://api.x.ai/v1"


def test_the_wire_with_an_endpoint_takes_nothing_from_the_preset_of_that_name(load_text) -> None:
    config = load_text("providers: {openai: {kind: openai, base_url: 'http://h/v1/'}}")

    openai = config.providers["openai"]
    assert (openai.base_url, openai.classes, config.off) == ("http://h/v1", {}, {})


def test_an_endpoint_overrides_the_presets_and_classes_are_added_to_its(load_text) -> None:
    config = load_text("providers: {openai: {api_key: k, base_url: 'http://h/v1', classes: {small: mine}}}")

    openai = config.providers["openai"]
    assert openai.base_url == "http://h/v1"
    assert (openai.classes["small"], openai.classes["embedding"]) == ("mine", "text-embedding-3-small")


def test_what_only_the_preset_knows_of_streams_is_kept(load_text) -> None:
    config = load_text("providers: {mistral: {api_key: k}, openai: {api_key: k}}")

    assert [entry.streams_usage for entry in config.providers.values()] == [False, True]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("", "OPENAI_API_KEY is empty"),
        ("{}", "OPENAI_API_KEY is empty"),
        ("{api_key: '${MY_KEY:-}'}", "MY_KEY is empty"),
        ("{api_key: ''}", "its api_key is empty"),
        ("{api_key: ' '}", "its api_key is empty"),
        ("{base_url: 'http://h/v1'}", "OPENAI_API_KEY is empty"),
    ],
)
def test_a_preset_without_its_key_is_off_and_says_why(load_text, entry: str, reason: str) -> None:
    config = load_text(f"providers:\n  openai: {entry}\n  ollama: {{}}\n")

    assert config.off == {"openai": reason}
    assert config.notes == (f"providers that are off: openai ({reason})",)


def test_a_key_in_the_environment_switches_a_preset_on_that_is_only_named(load_text) -> None:
    config = load_text("providers: {openai: }", {"OPENAI_API_KEY": "k"})

    assert config.off == {}
    assert config.providers["openai"].api_key.get_secret_value() == "k"


def test_a_preset_that_needs_no_key_is_on(load_text) -> None:
    config = load_text("providers: {ollama: , vllm: {}, lmstudio: {classes: {small: x}}}")

    assert config.off == {}


def test_a_model_whose_providers_are_all_off_is_noted(load_text) -> None:
    config = load_text("providers: {openai: , groq: }\nmodels: {chat: {deployments: [openai/small, groq/small]}}")

    assert config.notes[-1] == "model chat is off: openai, groq are off"


def test_local_models_are_the_packaged_ones_unless_others_are_named(load_text) -> None:
    config = load_text("providers: {llamacpp: , own: {kind: llamacpp, models: {qwen: {path: /q.gguf}}}}")

    usual, own = config.providers["llamacpp"], config.providers["own"]
    assert isinstance(usual, LlamaCppSettings)
    assert isinstance(own, LlamaCppSettings)
    assert {name: (model.classes, model.embedding) for name, model in usual.models.items()} == {
        "smollm2": (("small", "medium", "large"), False),
        "minilm": (("embedding",), True),
    }
    assert list(own.models) == ["qwen"]


def test_a_packaged_model_that_is_only_tuned_keeps_what_is_known_of_it(load_text) -> None:
    config = load_text(
        "providers: {local: {kind: llamacpp, models: {minilm: {threads: 2}, smollm2: {classes: [small]}}}}"
    )

    models = config.providers["local"].models  # type: ignore[union-attr]  # it is the llamacpp kind
    assert (models["minilm"].embedding, models["minilm"].threads) == (True, 2)
    assert models["smollm2"].classes == ("small",)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("headers: {'X Y': a}", "headers: header names have letters, digits and - only"),
        ("headers: {Host: a}", "headers: the header Host is set by the gateway"),
        ('headers: {X: "a\\nb"}', "headers.X: expected a header value without line breaks and control characters"),
        ("api_key: 'a b'", "api_key: expected a key without spaces, control characters or letters beyond ASCII"),
        ("base_url: 'http://u:p@h'", "base_url: a URL must not hold a password; it belongs in api_key or headers"),
        ("base_url: 'http://h:abc'", "base_url: expected a URL such as https://host/v1"),
        ("base_url: 'http://[::1'", "base_url: expected a URL such as https://host/v1"),
        ("base_url: 5", "base_url: expected a string, got a value not shown here (write it in quotes)"),
    ],
)
def test_what_cannot_be_sent_is_refused(complain, entry: str, line: str) -> None:
    lines = complain(f"providers:\n  vllm: {{{entry}}}\n")

    assert lines == [f"gateway.yaml:2: providers.vllm.{line}"]
