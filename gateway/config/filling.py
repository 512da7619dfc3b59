"""What a provider's entry leaves out and a preset knows: kind, endpoint, key variable, classes, settings.

Works on the plain tree, before it is validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config.tree import Place, Tree, mapping, nearest
from gateway.config.variables import fill_in_place, names_in
from gateway.providers import LlamaCppSettings, presets

# Known to whoever knows the field, so an unknown-word message would mislead.
NOT_SERVED = frozenset(
    {"anthropic", "azure", "bedrock", "claude", "cohere", "gemini", "google", "litellm", "vertex", "vertex_ai"}
)


def kinds() -> list[str]:
    """Return every word that `kind` may have."""
    return sorted({"openai", "llamacpp", *presets.preset_names()})


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
        entry["kind"] = "llamacpp"
        local = mapping(entry.get("models", dict.fromkeys(LlamaCppSettings.packaged())))
        entry.update(
            {"models": {key: LlamaCppSettings.complete(key, fields) for key, fields in local.items()}} if local else {}
        )
        return ""
    if kind == "openai" and "kind" in entry and ("base_url" in entry or name != "openai"):
        if "base_url" not in entry:  # the preset's would send the key to OpenAI
            tree.blame((*place, "base_url"), "is missing; expected a URL such as https://host/v1")
        return ""
    preset = presets.read_preset(kind) if isinstance(kind, str) else None
    if preset is not None:
        return _apply(tree, place, preset, entry, environ)
    if not tree.is_broken((*place, "kind")):
        _blame_kind(tree, place, kind, "kind" in entry)
    tree.silence(place)
    return ""


def _blame_kind(tree: Tree, place: Place, kind: object, is_written: bool) -> None:
    if isinstance(kind, str) and kind in NOT_SERVED:
        sentence = (
            f"this version does not serve {kind!r}; an endpoint of theirs that speaks the OpenAI wire "
            "works with kind: openai and its base_url"
        )
    elif is_written:
        sentence = f"unknown kind; {nearest(kind, kinds())}"
    else:
        sentence = f"this name is no preset, so the entry needs a kind; {nearest(kind, kinds())}"
    tree.blame((*place, "kind") if is_written else place, sentence)


def _apply(tree: Tree, place: Place, preset: presets.Preset, entry: dict[str, Any], environ: Mapping[str, str]) -> str:
    key_place = (*place, "api_key")
    if "api_key" not in entry and preset.env is not None:
        entry["api_key"] = fill_in_place(tree, key_place, f"${{{preset.env}:-}}", environ)
    entry["kind"] = "openai"
    entry.setdefault("base_url", preset.base_url)
    entry.setdefault("streams_usage", preset.streams_usage)
    for field, shipped in (("classes", preset.classes), ("settings", preset.settings)):
        if isinstance(entry.get(field, {}), dict):
            entry[field] = {**mapping(shipped), **entry.get(field, {})}
    if not preset.needs_key or tree.is_broken(key_place) or not _is_blank(entry.get("api_key")):
        return ""
    names = names_in(tree.unfilled.get(key_place, ""))
    return f"{names[0]} is empty" if names else "its api_key is empty"


def _is_blank(key: object) -> bool:
    return key is None or (isinstance(key, str) and not key.strip())
