"""From the operator's configuration to the one that is driven: same names, routes and settings, every far side replaced.

The result is made anew from the parts that matter, so that no address, key, header or store of the operator's is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from gateway.chaos.faults import TOTAL_IN_PATIENCES
from gateway.chaos.stand_in import LOOPBACK
from gateway.config import Config, Resolved, parse, read_file, resolve
from gateway.providers import HostedSettings, LiteLLMSettings, LlamaCppSettings, ModelFacts, OpenAISettings
from gateway.routing import DeploymentPlan, DeploymentSettings, RouteSettings, TimeoutSettings

_WITHOUT_DEFAULT = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_IS_ADDRESS = re.compile(r"URL|URI|BASE|HOST|ENDPOINT")
_IS_KEY = re.compile(r"_(API_KEY|KEY|TOKEN)$")

ProviderEntry = OpenAISettings | LiteLLMSettings | LlamaCppSettings


class _EveryKey(dict[str, str]):
    """An environment in which every variable that is called after a key has a value."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # of text only
        return super().get(name) or (f"stand-in-for-{name}" if _IS_KEY.search(name) else default)


def load_without_keys(path: Path, environ: Mapping[str, str], *, every_provider: bool = False) -> Config:
    """Return the configuration; variables that must be set and are not get made-up values, as nothing real is asked.

    With `every_provider` every key counts as given. Providers that only lack the library litellm are switched on.
    Raises ConfigError.
    """
    text = read_file(path)
    needed = _WITHOUT_DEFAULT.findall(text.decode("utf-8", "replace"))
    made_up = {name: f"http://{LOOPBACK}:9" if _IS_ADDRESS.search(name) else f"stand-in-for-{name}" for name in needed}
    filled = {**made_up, **environ}
    config = parse(text, str(path), environ=_EveryKey(filled) if every_provider else filled)
    uninstalled = {name for name, why in config.off.items() if _is_refused(config, name, why)}
    return config.model_copy(
        update={"off": {name: why for name, why in config.off.items() if name not in uninstalled}, "refused": ()}
    )


def hosts_of(providers: Mapping[str, ProviderEntry]) -> dict[str, str]:
    """Return what stands for the host of each provider: those with the same are out of reach together."""
    return {name: _host(name, entry) for name, entry in providers.items()}


def replace_far_sides(config: Config, resolved: Resolved, urls: Mapping[str, str], patience: float) -> Config:
    """Return the configuration in which each provider is asked at its address in `urls`, with patience cut to `patience`.

    All speak the OpenAI wire there. Providers that shared a host and a key still share a key. Raises ValueError for an
    address beyond this machine.
    """
    keys = _keys(resolved.providers)
    for url in urls.values():
        if urlsplit(url).hostname != LOOPBACK:
            raise ValueError(f"{url} is not on {LOOPBACK}: nothing may leave this machine")
    return Config(
        file=config.file,
        server=config.server.model_copy(
            update={"host": LOOPBACK, "port": 0, "workers": 1, "allowed_hosts": (), "accept_grace_seconds": 0.0}
        ),
        providers={name: _replaced(entry, urls[name], keys[name]) for name, entry in resolved.providers.items()},
        models=dict(_models(config, resolved, patience)),
        failover=config.failover,
    )


def ask_first(config: Config, alias: str, name: str, fallback: str = "") -> Config:
    """Return a driven configuration in which the deployment `name` of `alias` is asked first, whatever its strategy.

    Of those that are asked instead for what is wrong with a request, `fallback` is the first.
    """
    route = config.models[alias]

    def ordered(deployments: tuple[DeploymentSettings, ...], first: str) -> tuple[DeploymentSettings, ...]:
        return tuple(sorted(deployments, key=lambda each: _name(config, each) != first))

    changed = route.model_copy(
        update={
            "strategy": "priority",
            "deployments": ordered(route.deployments, name),
            "context_fallbacks": ordered(route.context_fallbacks, fallback),
            "content_filter_fallbacks": ordered(route.content_filter_fallbacks, fallback),
        }
    )
    return config.model_copy(update={"models": {**config.models, alias: changed}})


def cut(timeouts: TimeoutSettings, patience: float) -> TimeoutSettings:
    """Return the same timeouts, none above `patience` seconds and the whole answer's not above twice that."""
    return TimeoutSettings(
        connect_seconds=min(timeouts.connect_seconds, patience),
        first_event_seconds=min(timeouts.first_event_seconds, patience),
        plain_answer_seconds=min(timeouts.begin_seconds(stream=False), patience),
        between_events_seconds=min(timeouts.between_events_seconds, patience),
        total_seconds=min(timeouts.total_seconds, patience * TOTAL_IN_PATIENCES),
    )


def describe_stand_ins(config: Config) -> Iterator[str]:
    """Yield what differs from the configuration besides the addresses."""
    providers = resolve(config).providers
    foreign = [name for name, entry in providers.items() if not isinstance(entry, OpenAISettings)]
    if foreign:
        yield f"{', '.join(foreign)}: stood in for over the OpenAI wire, which is not the one they speak"
    for name, why in config.off.items():
        yield f"{name}: off ({why}), so not tried"


def _name(config: Config, deployment: DeploymentSettings) -> str:
    entry = config.providers.get(deployment.provider)
    classes = entry.classes.items() if isinstance(entry, OpenAISettings) else ()
    model = next((model for word, model in classes if word == deployment.model), deployment.model)
    return f"{deployment.provider}/{model}"


def _is_refused(config: Config, name: str, why: str) -> bool:
    return any(line.endswith(f"providers.{name}: {why}") for line in config.refused)


def _host(name: str, entry: ProviderEntry) -> str:
    if isinstance(entry, LlamaCppSettings):
        return f"local {name}"
    if isinstance(entry, LiteLLMSettings):
        return f"{entry.prefix} {entry.base_url}"
    parts = urlsplit(entry.base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _keys(providers: Mapping[str, ProviderEntry]) -> dict[str, str]:
    """Return a made-up key for each provider, the same one where host and key are the same."""
    accounts: dict[tuple[str, ...], str] = {}
    keys: dict[str, str] = {}
    for name, entry in providers.items():
        account: tuple[str, ...] = (_host(name, entry),)
        if isinstance(entry, HostedSettings):
            account = (*account, entry.api_key.get_secret_value())
        if isinstance(entry, LiteLLMSettings):
            account = (*account, *(value.get_secret_value() for value in entry.options.values()))
        keys[name] = accounts.setdefault(account, f"chaos-{len(accounts)}")
    return keys


def _replaced(entry: ProviderEntry, url: str, key: str) -> OpenAISettings:
    common = {"settings": entry.settings, "max_output_tokens": entry.max_output_tokens}
    address = {"base_url": url, "api_key": SecretStr(key), "max_input_tokens": entry.max_input_tokens}
    if isinstance(entry, LlamaCppSettings):
        classes = {name: model for model, local in entry.models.items() for name in local.classes}
        facts = {model: ModelFacts(context_window=local.context_window) for model, local in entry.models.items()}
        return OpenAISettings.model_validate({**common, **address, "classes": classes, "models": facts})
    kept = {name: getattr(entry, name) for name in ("classes", "image_settings", "refuses", "models")}
    if isinstance(entry, OpenAISettings):
        kept |= {"streams_usage": entry.streams_usage, "token_field": entry.token_field}
    return OpenAISettings.model_validate({**common, **address, **kept})


def _models(config: Config, resolved: Resolved, patience: float) -> Iterator[tuple[str, RouteSettings]]:
    """Yield every alias with its deployments; classes that are not written get an entry, because of the timeouts."""
    for alias, plan in resolved.plan.routes.items():
        written = config.models.get(alias)
        if written is None:
            deployments = tuple(_written(each, patience) for each in plan.deployments)
            yield alias, RouteSettings(strategy=plan.strategy, deployments=deployments)
        else:
            yield alias, _cut_route(written, patience)


def _written(plan: DeploymentPlan, patience: float) -> DeploymentSettings:
    return DeploymentSettings(provider=plan.provider, model=plan.model, timeouts=cut(plan.timeouts, patience))


def _cut_route(route: RouteSettings, patience: float) -> RouteSettings:
    def cut_all(deployments: tuple[DeploymentSettings, ...]) -> tuple[DeploymentSettings, ...]:
        return tuple(
            each.model_copy(update={"timeouts": cut(route.timeouts.with_overrides(each.timeouts), patience)})
            for each in deployments
        )

    lists = ("deployments", "context_fallbacks", "content_filter_fallbacks")
    return route.model_copy(update={name: cut_all(getattr(route, name)) for name in lists})
