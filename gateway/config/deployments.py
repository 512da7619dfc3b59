"""Whether each deployment of an alias names a provider and a model that exist and go together.

Works on the plain tree, as `rules.py` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.document import CLASSES
from gateway.config.outline import Outline
from gateway.config.tree import Place, Tree, mapping, nearest, sequence
from gateway.routing import CHAT_TRUNCATIONS, EMBEDDING_TRUNCATIONS

# Where the configuration of an alias names deployments.
LISTS = ("deployments", "context_fallbacks", "content_filter_fallbacks")
EMBEDDING = "embedding"


def check_deployments(tree: Tree, alias: str, route: Mapping[str, Any], outline: Outline) -> None:
    """Note what is wrong with the deployments of one alias, each and together."""
    spaces: list[tuple[str, str]] = []  # what is written, and the model by its last name: makers' names come before it
    embeds, writes = alias == EMBEDDING, alias in CLASSES and alias != EMBEDDING
    for place, deployment in deployments_of(alias, route):
        provider, model = _parts(deployment)
        if provider is None or model is None:
            continue
        if provider not in outline.names:
            at = place if isinstance(deployment, str) else (*place, "provider")
            tree.blame(at, f"unknown provider {tree.show(at)}; {nearest(provider, outline.names)}")
            continue
        if provider not in outline.providers:
            continue  # its own mistake is told where it stands
        at = place if isinstance(deployment, str) else (*place, "model")
        _check_model(tree, at, provider, model, outline)
        upstream = outline.classes(provider).get(model, model)
        spaces.append((tree.show(at), upstream.rpartition("/")[2].lower()))
        embeds = embeds or _embeds(outline, provider, model)
        writes = writes or _writes(outline, provider, model)
    _check_truncation(tree, alias, route.get("truncation"), embeds=embeds, writes=writes)
    if embeds and len({model for _, model in spaces}) > 1:
        tree.blame(
            ("models", alias, "deployments"),
            f"vectors of different embedding models cannot be mixed; expected one model, got {', '.join(written for written, _ in spaces)}",
        )


def _check_truncation(tree: Tree, alias: str, written: object, *, embeds: bool, writes: bool) -> None:
    """Note a way with what is too long that this alias cannot go; of many hosted models nobody knows what they are."""
    place: Place = ("models", alias, "truncation")
    if embeds and not writes and written in CHAT_TRUNCATIONS:
        tree.blame(place, f"is for chats, and this alias embeds; expected one of: {', '.join(EMBEDDING_TRUNCATIONS)}")
    elif writes and not embeds and written in EMBEDDING_TRUNCATIONS:
        tree.blame(
            place, f"is for embeddings, and this alias does not embed; expected one of: {', '.join(CHAT_TRUNCATIONS)}"
        )


def deployments_of(alias: str, route: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Yield each deployment that the configuration of an alias names, with its place in the file."""
    for name in LISTS:
        for index, deployment in enumerate(sequence(route.get(name))):
            yield ("models", alias, name, index), deployment


def _parts(deployment: object) -> tuple[str | None, str | None]:
    fields = mapping(deployment)
    if isinstance(deployment, str):
        fields = dict(zip(("provider", "model"), deployment.split("/", 1), strict=False))
    provider, model = fields.get("provider"), fields.get("model")
    return (provider if isinstance(provider, str) and provider else None), (
        model if isinstance(model, str) and model else None
    )


def _check_model(tree: Tree, place: Place, provider: str, model: str, outline: Outline) -> None:
    classes = outline.classes(provider)
    if model in CLASSES:
        if model not in classes:
            served = f"it serves: {', '.join(classes)}" if classes else "it serves no class; name an upstream model"
            tree.blame(place, f"the provider {provider!r} does not serve the class {model!r}; {served}")
    elif outline.is_local(provider) and model not in outline.local_models(provider):
        known = [*outline.local_models(provider), *classes]
        tree.blame(place, f"the provider {provider!r} has no model {tree.show(place)}; {nearest(model, known)}")


def _embeds(outline: Outline, provider: str, model: str) -> bool:
    if model == EMBEDDING or model == outline.classes(provider).get(EMBEDDING):
        return True
    return mapping(outline.local_models(provider).get(model)).get("embedding") is True


def _writes(outline: Outline, provider: str, model: str) -> bool:
    """Tell whether a model is known to write."""
    if model in CLASSES:
        return model != EMBEDDING
    local = outline.local_models(provider)
    return model in local and mapping(local[model]).get("embedding") is not True
