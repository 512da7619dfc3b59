"""What no single section can check: names that must exist elsewhere in the file, and combinations that cannot work.

Works on the plain tree and passes over what has the wrong shape, so that all mistakes are found at once.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any

from gateway.config.deployments import check_deployments, deployments_of
from gateway.config.document import CLASSES, NAME_EXPECTED, NAME_PATTERN
from gateway.config.outline import Outline
from gateway.config.tree import Place, Tree, mapping, nearest, sequence
from gateway.errors import InvalidRequest
from gateway.packaged import HUB_SCHEME, PackagedModelError, parse_hub, record_file
from gateway.providers import LlamaCppSettings
from gateway.wire import STEERING, check_chat

# What a request is about belongs to its caller; a setting that filled it in would change the form of the answer.
CALLERS_OWN = ("encoding_format", "input", "messages", "model", "prompt", "stream", "stream_options")


def check_rules(tree: Tree) -> None:
    """Note every mistake that concerns more than one place."""
    outline = Outline(tree)
    _check_open(tree)
    _check_path(tree, ("server", "data_dir"))
    _check_keys(tree, outline)
    for name, entry in outline.providers.items():
        place: Place = ("providers", name)
        _check_settings(tree, (*place, "settings"), entry.get("settings"))
        if entry.get("kind") == "llamacpp":
            _check_local_models(tree, place, mapping(entry.get("models")))
    for alias, route in mapping(tree.root.get("models")).items():
        _check_alias(tree, alias, outline)
        check_deployments(tree, alias, mapping(route), outline)
        for place, deployment in deployments_of(alias, mapping(route)):
            _check_settings(tree, (*place, "settings"), mapping(deployment).get("settings"))
            for position, name in enumerate(sequence(mapping(deployment).get("allowed_extra"))):
                if name in STEERING or name in CALLERS_OWN:
                    tree.blame((*place, "allowed_extra", position), "can never be let through")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_open(tree: Tree) -> None:
    host = mapping(tree.root.get("server")).get("host", "127.0.0.1")
    auth = tree.root.get("auth", {})
    if not isinstance(host, str) or not host or is_loopback(host):
        return
    if isinstance(auth, dict) and not auth.get("keys", []):
        tree.blame(
            ("auth", "keys"),
            f"at least one key is needed to listen on {tree.show(('server', 'host'))}; without keys the gateway stays on 127.0.0.1",
        )


def _check_keys(tree: Tree, outline: Outline) -> None:
    names: dict[str, int] = {}
    secrets: dict[str, int] = {}
    for index, key in enumerate(sequence(mapping(tree.root.get("auth")).get("keys"))):
        place: Place = ("auth", "keys", index)
        fields = mapping(key)
        name, secret = fields.get("name"), fields.get("key")
        if isinstance(name, str) and names.setdefault(name, index) != index:
            tree.blame((*place, "name"), f"the same name as auth.keys[{names[name]}]")
        if isinstance(secret, str) and secret and not tree.is_broken((*place, "key")):
            if secrets.setdefault(secret, index) != index:
                tree.blame((*place, "key"), f"the same key as auth.keys[{secrets[secret]}]")
            if any(sign.isspace() or not sign.isprintable() for sign in secret):
                tree.blame((*place, "key"), "expected a key without spaces and control characters")
        for position, alias in enumerate(sequence(fields.get("models"))):
            _check_permission(tree, (*place, "models", position), alias, outline)


def _check_permission(tree: Tree, place: Place, alias: object, outline: Outline) -> None:
    if not isinstance(alias, str) or alias == "*" or outline.is_known(alias):
        return
    if "*" in alias:
        tree.blame(place, "only '*' alone stands for every model; name each model otherwise")
    else:
        tree.blame(place, f"unknown model {tree.show(place)}; {nearest(alias, ['*', *outline.aliases])}")


def _check_settings(tree: Tree, place: Place, settings: object) -> None:
    for name in mapping(settings):
        if name in CALLERS_OWN:
            tree.blame((*place, name), "is the caller's to send and cannot be a setting")
        elif name in STEERING:
            tree.blame(
                (*place, name), "steers calls and cannot be sent; credentials and addresses belong to the provider"
            )
    fields = {name: value for name, value in mapping(settings).items() if name not in CALLERS_OWN}
    try:
        check_chat({"model": "any", "messages": [{"role": "user", "content": ""}], **fields})
    except InvalidRequest as mistake:
        name = re.split(r"[.\[]", mistake.param or "")[0]
        tree.blame((*place, name) if name in fields else place, _setting_sentence(tree, (*place, name), mistake))


def _setting_sentence(tree: Tree, place: Place, mistake: InvalidRequest) -> str:
    named = f" (it comes from {tree.unfilled[place]}, which is text)" if place in tree.unfilled else ""
    return f"no request may have this: {mistake.message}{named}"


def _check_local_models(tree: Tree, place: Place, models: dict[str, Any]) -> None:
    holders: dict[object, str] = {}
    for name, model in models.items():
        at = (*place, "models", name)
        fields = mapping(model)
        if not re.fullmatch(NAME_PATTERN, name) or name.endswith("\n"):
            tree.blame(at, NAME_EXPECTED)
        if name in CLASSES:
            tree.blame(at, "a model cannot have the name of a class")
        _check_path(tree, (*at, "path"))
        if fields.get("path") is None and name not in LlamaCppSettings.packaged():
            _check_added(tree, (*at, "path"), name)
        _check_classes(tree, at, fields, holders)


def _check_added(tree: Tree, place: Place, name: str) -> None:
    """Blame a model without a path unless one of this name was added to the data directory."""
    data_dir = mapping(tree.root.get("server")).get("data_dir", "data")
    if not isinstance(data_dir, str) or tree.is_broken(("server", "data_dir")):
        return
    try:
        models_dir = Path(tree.file).absolute().parent / Path(data_dir).expanduser() / "models"
        is_there = record_file(name, models_dir).is_file()
    except (PackagedModelError, RuntimeError, OSError, ValueError):  # no name, no home, no path
        is_there = False
    if not is_there:
        known = nearest(name, LlamaCppSettings.packaged())
        tree.blame(place, f"is missing, and no packaged or added model has this name; {known}")


def _check_path(tree: Tree, place: Place) -> None:
    path = tree.at(place)
    if isinstance(path, str) and path.startswith(HUB_SCHEME):
        try:
            parse_hub(path)
        except PackagedModelError as error:
            tree.blame(place, str(error).removeprefix(f"{path}: "))
    try:
        usable = not isinstance(path, str) or b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half a character
        usable = False
    if not usable:
        tree.blame(place, "expected a path without NUL and half characters")


def _check_classes(tree: Tree, place: Place, fields: dict[str, Any], holders: dict[object, str]) -> None:
    embeds = fields.get("embedding") is True
    for word in sequence(fields.get("classes")):
        if not isinstance(word, str) or word not in CLASSES:
            continue
        if (word == "embedding") != embeds:
            tree.blame(
                (*place, "classes"),
                f"a model with embedding: {str(embeds).lower()} cannot serve the class {word}",
            )
        if holders.setdefault(word, str(place[-1])) != place[-1]:
            tree.blame((*place, "classes"), f"the class {word} is served by the model {holders[word]!r} already")


def _check_alias(tree: Tree, alias: str, outline: Outline) -> None:
    provider, slash, _ = alias.partition("/")
    if slash and provider in outline.names:
        tree.blame(
            ("models", alias), f"collides with the models of the provider {provider!r}, which are called {provider}/…"
        )
