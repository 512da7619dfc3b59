"""What presets, the environment and the file make of a provider together, and when one is off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, resolve
from gateway.mistakes import ConfigError
from gateway.providers import HostedSettings, LiteLLMSettings, LlamaCppSettings, OpenAISettings, presets
from gateway.routing import DeploymentPlan

ROOT = Path(__file__).parents[3]


def first(config: Config, alias: str = "small") -> DeploymentPlan:
    return resolve(config).plan.routes[alias].deployments[0]


@pytest.mark.parametrize("name", sorted(set(presets.preset_names()) - {"llamalocal"}))
def test_every_preset_is_on_with_nothing_but_its_variables(load_text, name: str) -> None:
    preset = presets.read_preset(name)
    assert preset is not None
    variables = [preset.env, preset.base_url_env, *preset.options.values()]
    environ = dict.fromkeys(filter(None, variables), "https://value")

    config = load_text(f"providers: {{{name}: }}", environ=environ)

    entry = config.providers[name]
    assert isinstance(entry, HostedSettings)
    assert config.off == {}
    assert entry.api_key.get_secret_value() == ("https://value" if preset.env else "")
    if isinstance(entry, LiteLLMSettings):
        assert {key: value.get_secret_value() for key, value in entry.options.items()} == dict.fromkeys(
            preset.options, "https://value"
        )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("anthropic", "ANTHROPIC_API_KEY is empty"),
        ("azure", "AZURE_API_KEY is empty"),
        ("bedrock", "aws_region_name is not given (AWS_REGION_NAME is empty)"),
        ("claude_vertex", "vertex_project is not given (VERTEX_PROJECT is empty)"),
        ("heurist", "HEURIST_API_KEY is empty"),
    ],
)
def test_a_provider_without_its_account_is_off(load_text, name: str, reason: str) -> None:
    config = load_text(f"providers: {{{name}: , ollama: }}")

    assert config.off == {name: reason}


def test_azure_without_its_endpoint_is_off(load_text) -> None:
    config = load_text("providers: {azure: {api_key: x}}")

    assert config.off == {"azure": "base_url is not given (AZURE_API_BASE is empty)"}


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("https://lab.openai.azure.com", "https://lab.openai.azure.com/openai/v1"),
        ("https://lab.openai.azure.com/", "https://lab.openai.azure.com/openai/v1"),
        ("https://lab.openai.azure.com/openai/", "https://lab.openai.azure.com/openai/v1"),
        ("https://lab.openai.azure.com/openai/v1/", "https://lab.openai.azure.com/openai/v1"),
        ("https://proxy.lab:8443/azure", "https://proxy.lab:8443/azure"),
    ],
)
def test_an_endpoint_of_azure_is_asked_at_its_v1_path(load_text, given: str, asked: str) -> None:
    written = load_text(f"providers: {{azure: {{api_key: x, base_url: '{given}'}}}}").providers["azure"]
    told = load_text("providers: {azure: {api_key: x}}", {"AZURE_API_BASE": given}).providers["azure"]

    assert isinstance(written, OpenAISettings)
    assert isinstance(told, OpenAISettings)
    assert (written.base_url, told.base_url) == (asked, asked)


def test_azure_says_that_an_api_version_is_not_read(complain) -> None:
    told = complain(
        "providers:\n  azure:\n    api_key: x\n    base_url: https://a.b\n    options: {api_version: '2025-01-01'}\n"
    )

    assert told == ["gateway.yaml:5: providers.azure.options: are read with kind: litellm only; this preset needs none"]


def test_azure_through_litellm_is_left_as_it_is_written(load_text) -> None:
    entry = "{kind: litellm, prefix: azure, api_key: x, base_url: https://a.b, options: {api_version: '2025'}}"

    azure = load_text(f"providers: {{azure: {entry}}}").providers["azure"]

    assert isinstance(azure, LiteLLMSettings)
    assert azure.base_url == "https://a.b"


def test_llamalocal_runs_local_models_with_its_settings(load_text) -> None:
    config = load_text("providers: {llamalocal: }")

    entry = config.providers["llamalocal"]
    assert isinstance(entry, LlamaCppSettings)
    assert list(entry.models) == ["smollm2", "minilm"]
    assert first(config).settings["chat/completions"] == {"stop": ["<|eot_id|>", "<|eom_id|>"], "temperature": 0.3}
    assert (first(config).context_window, first(config).max_output_tokens) == (8192, 8192)


@pytest.mark.parametrize(
    ("name", "variable", "alias"),
    [
        ("openai", "SMALL_OPENAI_MODEL", "small"),
        ("openai", "EMBEDDING_OPENAI_MODEL", "embedding"),
        ("openai", "IMAGE_OPENAI_MODEL", "image"),
        ("anthropic", "LARGE_ANTHROPIC_MODEL", "large"),
        ("grok", "MEDIUM_GROK_MODEL", "medium"),
        ("llamacloud", "SMALL_LLAMACLOUD_MODEL", "small"),
        ("xai", "SMALL_GROK_MODEL", "small"),
        ("together", "LARGE_LLAMACLOUD_MODEL", "large"),
    ],
)
def test_a_variable_chooses_the_model_of_a_class(load_text, name: str, variable: str, alias: str) -> None:
    config = load_text(f"providers: {{{name}: {{api_key: x}}}}", environ={variable: " chosen-1 "})

    assert first(config, alias).model == "chosen-1"


def test_a_variable_chooses_among_local_models_too(load_text) -> None:
    text = "providers: {llamalocal: {models: {smollm2: , mine: {path: a.gguf}}}}"

    config = load_text(text, environ={"LARGE_LLAMALOCAL_MODEL": "mine", "SMALL_LLAMALOCAL_MODEL": "unheard-of"})

    assert [first(config, alias).model for alias in ("small", "medium", "large")] == ["smollm2", "smollm2", "mine"]


def test_the_variable_may_have_the_entrys_own_name(load_text) -> None:
    config = load_text("providers: {my-lab.2: {kind: groq, api_key: x}}", environ={"SMALL_MY_LAB_2_MODEL": "chosen-1"})

    assert first(config).model == "chosen-1"


def test_what_the_file_says_of_a_class_wins_over_the_variable(load_text) -> None:
    config = load_text(
        "providers: {openai: {api_key: x, classes: {small: mine}}}",
        environ={"SMALL_OPENAI_MODEL": "theirs", "MEDIUM_OPENAI_MODEL": "m-2", "LARGE_OPENAI_MODEL": ""},
    )

    assert first(config, "small").model == "mine"
    assert first(config, "medium").model == "m-2"
    assert first(config, "large").model == "gpt-5.4"


def test_settings_that_a_model_is_known_to_refuse_are_marked(load_text) -> None:
    config = load_text("providers: {openai: {api_key: x}, anthropic: {api_key: x}}")

    openai, anthropic = resolve(config).plan.routes["small"].deployments
    assert {"temperature", "frequency_penalty", "presence_penalty"} <= openai.refuses
    assert {"temperature", "frequency_penalty", "presence_penalty"} <= anthropic.refuses
    assert openai.token_field == "max_completion_tokens"


def test_the_limits_of_a_model_win_over_those_of_its_provider(load_text) -> None:
    config = load_text("providers: {openai: {api_key: x, classes: {small: unheard-of}}}")

    assert (first(config, "small").context_window, first(config, "small").max_output_tokens) == (128_000, 8192)
    assert (first(config, "large").context_window, first(config, "large").max_output_tokens) == (1_050_000, 128_000)


def test_a_limit_of_the_file_holds_whatever_is_known_of_the_model(load_text) -> None:
    config = load_text("providers: {openai: {api_key: x, max_output_tokens: 1000}}")

    assert first(config).max_output_tokens == 1000
    assert first(config).context_window == 272_000


def test_one_fact_of_the_file_leaves_the_others_as_they_are_known(load_text) -> None:
    config = load_text(
        "providers: {openai: {api_key: x, models: {gpt-5.4-mini: {input_usd: 9}, own-1: {output_usd: 1}}}}"
    )

    facts = first(config).facts
    assert facts is not None
    assert (facts.input_usd, facts.output_usd, facts.max_output_tokens) == (9, 4.5, 128_000)
    assert "temperature" in first(config).refuses


def test_an_empty_name_takes_a_class_away(load_text) -> None:
    config = load_text("providers: {openai: {api_key: x, classes: {image: '', embedding: null}}}")

    assert list(resolve(config).plan.routes) == ["small", "medium", "large"]


def test_a_makers_name_before_a_model_is_not_taken_for_a_provider_that_does_not_know_it(load_text) -> None:
    config = load_text("providers: {openai: {api_key: x}, groq: {api_key: x}}")

    plan = resolve(config).plan
    for name, provider, model in [
        ("openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
        ("openai/gpt-6-luna", "openai", "gpt-6-luna"),
        ("openai/unheard-of", "openai", "unheard-of"),
        ("groq/openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
    ]:
        route = plan.direct(name)
        assert route is not None
        assert (route.deployments[0].provider, route.deployments[0].model) == (provider, model)


@pytest.mark.parametrize(
    "model",
    ["../../v1beta/files?x=", "x:countTokens?x=", "a/b", "agent/A/B", "x#y", "..", "a..b", "x%2f", "responses/x", ""],
)
def test_behind_litellm_a_caller_can_name_no_paths_and_routes(load_text, model: str) -> None:
    config = load_text(
        "providers: {google: {api_key: x, classes: {large: odd/path:name}}, bedrock: }", {"AWS_REGION_NAME": "r"}
    )

    plan = resolve(config).plan
    assert plan.direct(f"google/{model}") is None
    assert plan.direct(f"bedrock/{model}") is None
    assert plan.direct("google/odd/path:name") is not None
    assert plan.direct("google/gemini-9.9-flash") is not None
    assert plan.direct("bedrock/maker.model-1-v1:0") is not None


def test_images_have_settings_of_their_own(load_text) -> None:
    config = load_text("providers: {heurist: {api_key: x}}")

    settings = first(config, "image").settings
    assert settings["images/generations"] == {"steps": 20}
    assert settings["chat/completions"] == {"temperature": 0.7}


def test_credentials_in_options_are_kept_from_sight(load_text) -> None:
    config = load_text(
        "providers: {bedrock: {options: {aws_region_name: eu-1, aws_secret_access_key: hush-hush}}}",
        environ={"AWS_SESSION_TOKEN": "hush-token"},
    )

    assert "hush-" not in repr(config)
    assert set(config.secrets()) == {"hush-hush", "hush-token"}


WITHOUT = """
import sys
sys.modules["litellm"] = None
from gateway.cli import app
app(["check", sys.argv[1]])
"""


def test_without_litellm_what_needs_it_is_refused_with_the_command_that_installs_it(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("providers:\n  ollama:\n  anthropic: {api_key: x}\n  lab: {kind: litellm, prefix: cohere}\n")

    done = subprocess.run([sys.executable, "-c", WITHOUT, str(file)], cwd=ROOT, capture_output=True, text=True)

    reason = "it needs litellm: pip install 'one-gateway[litellm]'"
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"{file}:3: providers.anthropic: {reason}",
        f"{file}:4: providers.lab: {reason}",
    ]
    assert f"anthropic: off, {reason}" in done.stdout
    assert "ollama: on" in done.stdout


def test_without_litellm_a_provider_that_has_no_key_is_simply_off(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("providers:\n  ollama:\n  anthropic:\n")

    done = subprocess.run([sys.executable, "-c", WITHOUT, str(file)], cwd=ROOT, env={}, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "anthropic: off, ANTHROPIC_API_KEY is empty" in done.stdout


def test_the_shipped_default_names_every_class_of_every_provider_with_a_key() -> None:
    from gateway.config import load

    keys: dict[str, Any] = {f"{name}_API_KEY": "k" for name in ("OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "HEURIST")}
    routes = resolve(load(ROOT / "gateway.yaml", environ=keys)).plan.routes

    assert [deployment.provider for deployment in routes["small"].deployments] == [
        "openai",
        "anthropic",
        "google",
        "groq",
        "heurist",
        "local",
    ]
    assert [deployment.provider for deployment in routes["embedding"].deployments] == ["openai"]
    assert [deployment.provider for deployment in routes["image"].deployments] == ["openai", "google", "heurist"]


@pytest.mark.parametrize(
    ("name", "missing", "options"),
    [
        ("claude_vertex", "google.auth", "{vertex_project: p}"),
        ("bedrock", "boto3", "{aws_region_name: us-east-1}"),
        ("bedrock", "botocore", "{aws_region_name: us-east-1}"),
    ],
)
def test_what_signs_and_fetches_tokens_is_asked_for_with_the_same_command(
    tmp_path: Path, name: str, missing: str, options: str
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"providers:\n  ollama:\n  {name}: {{options: {options}}}\n")
    without = WITHOUT.replace('"litellm"', f'"{missing}"')

    done = subprocess.run([sys.executable, "-c", without, str(file)], cwd=ROOT, capture_output=True, text=True)

    reason = f"it needs litellm: pip install 'one-gateway[litellm]' ({missing} is missing)"
    assert done.returncode == 78
    assert done.stderr.splitlines() == [f"{file}:3: providers.{name}: {reason}"]


def test_a_provider_of_litellms_that_is_not_proven_is_refused_with_what_to_do_instead(load_text) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("providers:\n  lab: {kind: litellm, prefix: petals}\n")

    assert str(caught.value) == (
        "gateway.yaml:2: providers.lab.prefix: litellm's provider of this name is not proven to keep to its base_url; "
        "where it speaks OpenAI's wire, expected kind: openai with its base_url"
    )
