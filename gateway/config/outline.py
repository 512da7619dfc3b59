"""The names a configuration file gives: its providers, what they serve, and what callers may ask for.

Read from the plain tree, whatever shape that is in; judges nothing.
"""

from __future__ import annotations

from typing import Any

from gateway.config.document import CLASSES
from gateway.config.tree import Tree, mapping, sequence


class Outline:
    """`names` are all providers, `providers` those whose entries can be read."""

    def __init__(self, tree: Tree) -> None:
        providers = mapping(tree.root.get("providers"))
        self.names = tuple(providers)
        self.providers: dict[str, dict[str, Any]] = {
            name: entry
            for name, entry in providers.items()
            if isinstance(entry, dict) and not tree.is_broken(("providers", name))
        }
        self.aliases = tuple(dict.fromkeys([*mapping(tree.root.get("models")), *CLASSES]))

    def classes(self, provider: str) -> dict[str, str]:
        """Return the upstream model of each class that this provider serves."""
        entry = self.providers.get(provider, {})
        if entry.get("kind") != "llamacpp":
            return {name: model for name, model in mapping(entry.get("classes")).items() if isinstance(model, str)}
        return {
            word: name
            for name, model in reversed(self.local_models(provider).items())
            for word in sequence(mapping(model).get("classes"))
            if isinstance(word, str)
        }

    def local_models(self, provider: str) -> dict[str, Any]:
        """Return the raw models of a provider that runs them itself."""
        return mapping(self.providers.get(provider, {}).get("models"))

    def _models(self, provider: str) -> set[str]:
        """Return the upstream models of a provider that are known by name."""
        return {*self.local_models(provider), *self.classes(provider).values()}

    def is_local(self, provider: str) -> bool:
        return self.providers.get(provider, {}).get("kind") == "llamacpp"

    def is_known(self, alias: str) -> bool:
        """Tell whether a caller could send this name, were every provider on."""
        if alias in (*self.aliases, "auto") or any(alias in self._models(name) for name in self.providers):
            return True
        provider, _, model = alias.partition("/")
        if not model or provider not in self.names:
            return False
        if self.is_local(provider):
            return model in self.local_models(provider) or model in self.classes(provider)
        return "*" not in model
