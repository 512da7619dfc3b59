"""What is left of a configuration when every far side is replaced, and what stands in for variables that are not set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.chaos.configuring import ask_first, cut, load_without_keys, replace_far_sides
from gateway.config import Config, parse, resolve
from gateway.mistakes import ConfigError
from gateway.providers import OpenAISettings
from gateway.routing import TimeoutSettings

CANARY = "canary"
WRITTEN = {
    "server": {"host": "0.0.0.0", "workers": 3, "allowed_hosts": ["canary.test"]},
    "auth": {"keys": [{"name": "app", "key": "sk-canary-app-0123456789"}]},
    "providers": {
        "one": {
            "kind": "openai",
            "base_url": "https://canary.test/v1",
            "api_key": "sk-canary-one",
            "headers": {"x-canary": "canary-header"},
            "classes": {"small": "tiny"},
            "settings": {"temperature": 0.5},
        },
        "twin": {"kind": "openai", "base_url": "https://canary.test/v2", "api_key": "sk-canary-one"},
        "other": {"kind": "openai", "base_url": "https://canary.test/v1", "api_key": "sk-canary-other"},
        "local": {"kind": "llamacpp"},
    },
    "models": {
        "a": {
            "deployments": ["one/small", {"provider": "twin", "model": "x", "timeouts": {"connect_seconds": 0.25}}],
            "timeouts": {"connect_seconds": 9, "first_event_seconds": 0.5},
        }
    },
}


def replaced(patience: float = 1.0) -> Config:
    config = parse(json.dumps(WRITTEN), "gateway.yaml", environ={})
    resolved = resolve(config)
    return replace_far_sides(
        config, resolved, {name: f"http://127.0.0.1:9/{name}/v1" for name in resolved.providers}, patience
    )


def keys_of(config: Config) -> dict[str, str]:
    providers = config.providers.items()
    return {name: entry.api_key.get_secret_value() for name, entry in providers if isinstance(entry, OpenAISettings)}


def test_nothing_of_the_operators_far_sides_is_left() -> None:
    config = replaced()

    text = config.model_dump_json() + "".join(config.secrets())
    assert CANARY not in text
    assert {entry.kind for entry in config.providers.values()} == {"openai"}
    assert config.server.host == "127.0.0.1"
    assert config.auth.keys == ()


def test_names_classes_settings_and_routes_stay() -> None:
    before, after = resolve(parse(json.dumps(WRITTEN), "gateway.yaml", environ={})), resolve(replaced())

    def names(resolved: object) -> dict[str, list[str]]:
        routes = resolved.plan.routes.items()  # type: ignore[attr-defined]
        return {alias: [f"{each.provider}/{each.model}" for each in route.deployments] for alias, route in routes}

    assert names(after) == names(before)
    assert names(after)["a"] == ["one/tiny", "twin/x"]
    assert after.plan.routes["a"].deployments[0].settings["chat/completions"] == {"temperature": 0.5}


def test_who_shared_a_host_and_a_key_still_shares_a_key() -> None:
    keys = keys_of(replaced())

    assert keys["one"] == keys["twin"]
    assert len({keys["one"], keys["other"], keys["local"]}) == 3


@pytest.mark.parametrize("url", ["http://canary.test/v1", "http://127.0.0.2/v1", "https://[::1]/v1", "/v1"])
def test_an_address_beyond_this_machine_is_never_taken(url: str) -> None:
    config = parse(json.dumps(WRITTEN), "gateway.yaml", environ={})
    resolved = resolve(config)

    with pytest.raises(ValueError, match=r"is not on 127\.0\.0\.1"):
        replace_far_sides(config, resolved, dict.fromkeys(resolved.providers, url), 1.0)


def test_timeouts_are_cut_and_shorter_ones_stay() -> None:
    routes = resolve(replaced(patience=1.0)).plan.routes

    first, second = (each.timeouts for each in routes["a"].deployments)
    assert (first.connect_seconds, second.connect_seconds) == (1.0, 0.25)
    assert first.first_event_seconds == second.first_event_seconds == 0.5
    assert first.begin_seconds(stream=False) == 0.5  # it follows first_event_seconds
    assert first.between_events_seconds == 1.0
    assert first.total_seconds == 2.0
    # A class that is not written in `models` has its timeouts cut too.
    assert routes["small"].deployments[0].timeouts == cut(TimeoutSettings(), 1.0)


def test_a_plain_answer_is_not_waited_for_ten_minutes() -> None:
    assert cut(TimeoutSettings(), 1.0).begin_seconds(stream=False) == 1.0


@pytest.mark.parametrize("name", ["one/tiny", "twin/x"])
def test_the_deployment_whose_turn_it_is_stands_first(name: str) -> None:
    config = ask_first(replaced(), "a", name)

    order = [f"{each.provider}/{each.model}" for each in resolve(config).plan.routes["a"].deployments]
    assert order[0] == name
    assert sorted(order) == ["one/tiny", "twin/x"]


@pytest.mark.parametrize("strategy", ["weighted", "least_busy", "lowest_latency", "priority"])
def test_whose_turn_it_is_is_asked_first_whatever_the_strategy(strategy: str) -> None:
    config = replaced()
    route = config.models["a"].model_copy(update={"strategy": strategy})

    changed = ask_first(config.model_copy(update={"models": {"a": route}}), "a", "twin/x")

    assert changed.models["a"].strategy == "priority"
    assert changed.models["a"].deployments[0].provider == "twin"


@pytest.mark.parametrize("lists", ["context_fallbacks", "content_filter_fallbacks"])
def test_a_fallback_whose_turn_it_is_stands_before_other_fallbacks_only(lists: str) -> None:
    config = replaced()
    route = config.models["a"]
    two = config.model_copy(update={"models": {"a": route.model_copy(update={lists: route.deployments})}})

    changed = ask_first(two, "a", "one/tiny", "twin/x").models["a"]

    assert [each.provider for each in changed.deployments] == ["one", "twin"]
    assert [each.provider for each in getattr(changed, lists)] == ["twin", "one"]


def test_variables_that_are_not_set_are_made_up(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text('providers: {lab: {kind: openai, base_url: "${LAB_URL}", api_key: "${LAB_KEY}"}}')

    config = load_without_keys(file, {})

    assert keys_of(config) == {"lab": "stand-in-for-LAB_KEY"}


def test_variables_that_are_set_and_defaults_are_taken_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text('providers: {lab: {kind: openai, base_url: "${LAB_URL:-http://x.test}", api_key: "${LAB_KEY}"}}')

    config = load_without_keys(file, {"LAB_KEY": "given"})

    entry = config.providers["lab"]
    assert isinstance(entry, OpenAISettings)
    assert (entry.base_url, entry.api_key.get_secret_value()) == ("http://x.test", "given")


def test_a_provider_without_its_key_is_off_unless_every_provider_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text('providers: {groq: {api_key: "${GROQ_API_KEY:-}"}, openai: }')

    as_served, every = load_without_keys(file, {}), load_without_keys(file, {}, every_provider=True)

    assert as_served.off.keys() == {"groq", "openai"}
    assert every.off == {}


def test_a_provider_that_only_lacks_the_library_litellm_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.config.filling.why_unavailable", lambda _: "litellm is not installed")
    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {anthropic: {api_key: x}, groq: {api_key: ''}}")

    config = load_without_keys(file, {})

    assert config.off.keys() == {"groq"}
    assert config.refused == ()


def test_a_mistake_is_told_as_gateway_check_tells_it(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {openai: {api_key: x}}\nmodels: {a: {deployments: [nobody/x]}}")

    with pytest.raises(ConfigError, match="unknown provider"):
        load_without_keys(file, {})
