"""From a configuration to the deployments behind every name a caller may send."""

from __future__ import annotations

import pytest

from gateway.config import resolve
from gateway.routing import TimeoutSettings

BASE = """\
providers:
  one: {kind: openai, base_url: "http://1/v1", classes: {small: s1, embedding: e1, image: i1}, settings: {top_p: 1}}
  off: {kind: groq}
  two: {kind: openai, base_url: "http://2/v1", classes: {small: s2, large: l2, embedding: e2}}
  local: {kind: llamacpp}
"""


def names(route) -> list[str]:
    return [f"{deployment.provider}/{deployment.model}" for deployment in route.deployments]


@pytest.fixture
def plan(load_text):
    return lambda models="": resolve(load_text(BASE + models)).plan


def test_classes_go_over_the_providers_that_are_on_in_their_order(plan) -> None:
    routes = plan().routes

    assert {alias: names(route) for alias, route in routes.items()} == {
        "small": ["one/s1", "two/s2", "local/smollm2"],
        "medium": ["local/smollm2"],
        "large": ["two/l2", "local/smollm2"],
        "embedding": ["one/e1"],
        "image": ["one/i1"],
    }


def test_an_entry_wins_over_the_class_and_other_names_follow(plan) -> None:
    routes = plan(
        "models: {chat: {deployments: [two/large]}, small: {deployments: [local/small, off/small, one/x/y]}}"
    ).routes

    assert list(routes) == ["small", "medium", "large", "embedding", "image", "chat"]
    assert names(routes["small"]) == ["local/smollm2", "one/x/y"]
    assert names(routes["chat"]) == ["two/l2"]


def test_an_entry_whose_providers_are_all_off_has_no_route(plan) -> None:
    routes = plan("models: {small: {deployments: [off/small]}, chat: {deployments: [off/small]}}").routes

    assert list(routes) == ["medium", "large", "embedding", "image"]


def test_one_embedding_model_may_have_several_deployments(plan) -> None:
    routes = plan("models: {embedding: {deployments: [one/e1, two/Maker/E1]}}").routes

    assert names(routes["embedding"]) == ["one/e1", "two/Maker/E1"]


def test_settings_of_the_deployment_win_over_those_of_the_provider(plan) -> None:
    routes = plan(
        "models: {a: {deployments: [{provider: one, model: x, settings: {top_p: 0.5, seed: 1}}, one/x]}}"
    ).routes

    first, second = routes["a"].deployments
    assert first.settings["chat/completions"] == {"top_p": 0.5, "seed": 1}
    assert second.settings["chat/completions"] == {"top_p": 1}


def test_settings_of_a_provider_are_not_for_its_embeddings(plan) -> None:
    routes = plan().routes

    assert routes["embedding"].deployments[0].settings["embeddings"] == {}
    assert routes["small"].deployments[0].settings["chat/completions"] == {"top_p": 1}


def test_timeouts_of_the_deployment_override_single_ones_of_the_route(plan) -> None:
    routes = plan("""\
models:
  a:
    timeouts: {connect_seconds: 1, total_seconds: 9}
    deployments: [{provider: one, model: x, timeouts: {total_seconds: 5}}, one/x]
""").routes

    first, second = routes["a"].deployments
    assert first.timeouts == TimeoutSettings(connect_seconds=1, total_seconds=5)
    assert second.timeouts == TimeoutSettings(connect_seconds=1, total_seconds=9)


def test_what_a_deployment_says_of_its_model_is_kept(plan) -> None:
    routes = plan(
        "models: {a: {deployments: [{provider: one, model: x, context_window: 9, max_output_tokens: 3, weight: 2}]}}"
    ).routes

    (deployment,) = routes["a"].deployments
    assert (deployment.context_window, deployment.max_output_tokens, deployment.weight) == (9, 3, 2.0)


@pytest.mark.parametrize(
    ("name", "deployment"),
    [
        ("one/gpt", "one/gpt"),
        ("one/meta-llama/llama-3:free", "one/meta-llama/llama-3:free"),
        ("one/small", "one/s1"),
        ("local/smollm2", "local/smollm2"),
        ("local/embedding", "local/minilm"),
    ],
)
def test_a_name_may_spell_out_provider_and_model(plan, name: str, deployment: str) -> None:
    route = plan().direct(name)

    assert route is not None
    assert route.alias == name
    assert names(route) == [deployment]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "one",
        "one/",
        "/x",
        "none/x",
        "off/x",
        "one/large",
        "two/image",
        "local/gpt",
        "one/ ",
        "one/a\nb",
        "\ud800/x",
    ],
)
def test_other_names_are_nothing(plan, name: str) -> None:
    assert plan().direct(name) is None


def test_providers_that_are_off_are_left_out(load_text) -> None:
    resolved = resolve(load_text(BASE))

    assert list(resolved.providers) == ["one", "two", "local"]


SAMPLING = {"temperature", "top_p", "top_k"}
CLAUDE = "providers: {anthropic: {api_key: x%s}}"


@pytest.mark.parametrize(
    ("more", "environ"),
    [
        ("", {"SMALL_ANTHROPIC_MODEL": "claude-opus-4-7"}),
        (", classes: {small: claude-opus-4-7}", {}),
        (", classes: {small: claude-opus-4-7}, models: {claude-opus-4-7: {input_usd: 1}}", {}),
    ],
)
def test_a_setting_that_the_price_map_says_a_model_refuses_is_not_planned_for_it(load_text, more, environ) -> None:
    plan = resolve(load_text(CLAUDE % more, environ)).plan

    assert plan.routes["small"].deployments[0].refuses >= SAMPLING


def test_a_model_that_is_spelled_out_is_looked_up_too(load_text) -> None:
    route = resolve(load_text(CLAUDE % "")).plan.direct("anthropic/claude-fable-5")

    assert route is not None
    assert route.deployments[0].refuses >= SAMPLING


def test_what_is_written_of_a_model_wins_over_the_price_map(load_text) -> None:
    written = ", classes: {small: claude-opus-4-7}, models: {claude-opus-4-7: {refuses: [seed]}}"

    refuses = resolve(load_text(CLAUDE % written)).plan.routes["small"].deployments[0].refuses

    assert refuses == {"seed", "frequency_penalty", "presence_penalty"}
