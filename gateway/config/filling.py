"""What a provider's entry leaves out and a preset knows: kind, endpoint, key variable, classes, settings.

Works on the plain tree, before it is validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config.document import CLASSES
from gateway.config.tree import Place, Tree, mapping, nearest, sequence
from gateway.config.variables import fill_in_place, names_in
from gateway.providers import LlamaCppSettings, presets, why_unavailable

NEEDS_LITELLM = "it needs litellm"
_NOWHERE = "https://base-url-is-not-given.invalid"  # of a provider that is off, so it is never asked


def kinds() -> list[str]:
    """Return every word that `kind` may have."""
    return sorted({"openai", "llamacpp", "litellm", *presets.preset_names()})


def wire_of(kind: str) -> str:
    """Return the wire of a word that `kinds` has."""
    preset = presets.read_preset(kind)
    return preset.wire if preset is not None else kind


def fill(tree: Tree, environ: Mapping[str, str]) -> dict[str, str]:
    """Complete every provider's entry in place; returns the providers that are switched off, each with the reason."""
    tree.root = {key: value for key, value in tree.root.items() if value is not None}
    providers = tree.root.get("providers")
    if not isinstance(providers, dict):
        return {}
    off: dict[str, str] = {}
    for name, entry in providers.items():
        given = {} if entry is None else entry
        if isinstance(given, dict):
            providers[name] = given
            if reason := _fill_provider(tree, name, given, environ):
                off[name] = reason
    return off


def _fill_provider(tree: Tree, name: str, entry: dict[str, Any], environ: Mapping[str, str]) -> str:
    place: Place = ("providers", name)
    kind = entry.get("kind", name)
    if kind == "llamacpp":
        _complete_local(entry)
        return ""
    if kind == "litellm":
        return _without_litellm(entry.get("prefix"))
    if kind == "openai" and "kind" in entry and ("base_url" in entry or name != "openai"):
        if "base_url" not in entry:  # the preset's would send the key to OpenAI
            tree.blame((*place, "base_url"), "is missing; expected a URL such as https://host/v1")
        return ""
    preset = presets.read_preset(kind) if isinstance(kind, str) else None
    if preset is not None:
        return Filling(tree, name, entry, environ).apply(preset)
    if not tree.is_broken((*place, "kind")):
        _blame_kind(tree, place, kind, "kind" in entry)
    tree.silence(place)
    return ""


def _complete_local(entry: dict[str, Any]) -> None:
    entry["kind"] = "llamacpp"
    local = mapping(entry.get("models", dict.fromkeys(LlamaCppSettings.packaged())))
    if local:
        entry["models"] = {key: LlamaCppSettings.complete(key, fields) for key, fields in local.items()}


def _move_classes(models: dict[str, Any], chosen: Mapping[str, str]) -> None:
    """Let each class be served by the local model that the environment chooses for it."""
    for class_name, model in chosen.items():
        if model in models:
            for name, fields in models.items():
                others = [word for word in sequence(mapping(fields).get("classes")) if word != class_name]
                models[name] = {**mapping(fields), "classes": [*others, class_name] if name == model else others}


def _without_litellm(prefix: object) -> str:
    reason = why_unavailable(str(prefix))
    return f"{NEEDS_LITELLM}: {reason}" if reason else ""


def _blame_kind(tree: Tree, place: Place, kind: object, is_written: bool) -> None:
    if is_written:
        sentence = f"unknown kind; {nearest(kind, kinds())}"
    else:
        sentence = f"this name is no preset, so the entry needs a kind; {nearest(kind, kinds())}"
    tree.blame((*place, "kind") if is_written else place, sentence)


class Filling:
    """One provider's entry while its preset completes it, in place."""

    def __init__(self, tree: Tree, name: str, entry: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._tree = tree
        self._name = name
        self._place: Place = ("providers", name)
        self._entry = entry
        self._environ = environ

    def apply(self, preset: presets.Preset) -> str:
        """Complete the entry and return why the provider is off, "" if it is on."""
        entry = self._entry
        kind = str(entry.get("kind", self._name))
        self._from_environment("api_key", preset.env)
        self._from_environment("base_url", preset.base_url_env)
        self._complete_base_url(preset.base_path)
        self._fill_options(preset)
        entry["kind"] = preset.wire
        shipped = preset.fields()
        if preset.wire == "llamacpp":
            _complete_local(entry)
            _move_classes(mapping(entry.get("models")), self._classes_from_environment(kind))
        else:
            shipped["classes"] = dict(preset.classes) | self._classes_from_environment(kind)
            shipped["models"] = self._models(preset, shipped)
        for field, value in shipped.items():
            if not isinstance(value, dict):
                entry.setdefault(field, value)
            elif isinstance(entry.get(field, {}), dict):
                entry[field] = {**value, **entry.get(field, {})}
        if isinstance(entry.get("classes"), dict):  # an empty name takes a class away
            entry["classes"] = {name: model for name, model in entry["classes"].items() if model not in (None, "")}
        reason = self._why_off(preset)
        if reason and preset.needs == "base_url" and _is_blank(entry.get("base_url")):
            entry["base_url"] = _NOWHERE
        return reason

    def _models(self, preset: presets.Preset, shipped: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is known of each model: the preset's limits for class models, its facts, and the file's over both."""
        facts: dict[str, Any] = shipped.get("models", {})
        classes = {**shipped["classes"], **mapping(self._entry.get("classes"))}
        known = {
            model: preset.limits() for model in classes.values() if isinstance(model, str) and model and preset.limits()
        }
        own = mapping(self._entry.get("models"))
        merged: dict[str, Any] = {**known, **facts}
        for model, told in own.items():
            merged[model] = {**merged.get(model, {}), **told} if isinstance(told, dict) else told
        if own:
            self._entry["models"] = merged
        return merged

    def _from_environment(self, field: str, variable: str | None) -> None:
        if variable is None or field in self._entry:
            return
        value = fill_in_place(self._tree, (*self._place, field), f"${{{variable}:-}}", self._environ)
        if value or field == "api_key":
            self._entry[field] = value

    def _complete_base_url(self, path: str | None) -> None:
        """Put `path` behind an endpoint as a portal shows it, which is a host or has the beginning of it."""
        url = self._entry.get("base_url")
        if path is None or not isinstance(url, str) or self._tree.is_broken((*self._place, "base_url")):
            return
        scheme, _, rest = url.strip().partition("://")
        host, _, given = rest.rstrip("/").partition("/")
        if host and path.startswith(f"/{given}/" if given else "/"):
            self._entry["base_url"] = f"{scheme}://{host}{path}"

    def _fill_options(self, preset: presets.Preset) -> None:
        if preset.wire == "openai" and "options" in self._entry:
            self._tree.blame((*self._place, "options"), "are read with kind: litellm only; this preset needs none")
        options = self._entry.setdefault("options", {}) if preset.options else {}
        if not isinstance(options, dict):
            return  # its own mistake is told where it stands
        for name, variable in preset.options.items():
            if name not in options and (value := self._environ.get(variable, "")):
                options[name] = value
                self._tree.unfilled[(*self._place, "options", name)] = f"${{{variable}}}"

    def _classes_from_environment(self, kind: str) -> dict[str, str]:
        """Return the classes that variables such as SMALL_OPENAI_MODEL choose, by the entry's name or its preset's."""
        found: dict[str, str] = {}
        target = presets.ALIASES.get(kind, kind)
        also = [alias for alias, its_target in presets.ALIASES.items() if its_target == target]
        for word in dict.fromkeys((*also, target, kind, self._name)):
            for class_name in CLASSES:
                variable = f"{class_name}_{word}_model".upper().replace("-", "_").replace(".", "_")
                if value := self._environ.get(variable, "").strip():
                    found[class_name] = value
        return found

    def _why_off(self, preset: presets.Preset) -> str:
        key_place = (*self._place, "api_key")
        if preset.needs_key and not self._tree.is_broken(key_place) and _is_blank(self._entry.get("api_key")):
            names = names_in(self._tree.unfilled.get(key_place, ""))
            return f"{names[0]} is empty" if names else "its api_key is empty"
        if preset.needs is not None:
            options = mapping(self._entry.get("options"))
            if _is_blank(self._entry.get(preset.needs)) and _is_blank(options.get(preset.needs)):
                variable = preset.options.get(preset.needs) or preset.base_url_env
                return f"{preset.needs} is not given" + (f" ({variable} is empty)" if variable else "")
        return _without_litellm(self._entry.get("prefix")) if preset.wire == "litellm" else ""


def _is_blank(key: object) -> bool:
    return key is None or (isinstance(key, str) and not key.strip())
