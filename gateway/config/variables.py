"""Environment variables in the configuration: the one place that fills in `${NAME}` and `${NAME:-default}`.

A value from the environment stays one piece of text: it is not searched for variables again and never parsed as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.config.tree import Place, Tree

# In this order: an escaped ${, a variable, a ${ that is neither.
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")


class BadVariable(ValueError):
    """The text names a variable that is not set, or spells one wrongly."""


def fill_in(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with its variables' values; `$${` stands for a plain `${`.

    The default holds where the variable is missing or empty. Raises BadVariable.
    """

    def value_of(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            raise BadVariable("expected ${NAME} or ${NAME:-default}; a plain ${ is written $${")
        value = environ.get(name)
        if value is None and default is None:
            raise BadVariable(f"the environment variable {name} is not set; ${{{name}:-…}} would give it a default")
        return value or default or ""

    return _VARIABLE.sub(value_of, text)


def names_in(text: str) -> list[str]:
    """Return the names of the variables in `text`."""
    return [match["name"] for match in _VARIABLE.finditer(text) if match["name"]]


def fill_in_tree(tree: Tree, environ: Mapping[str, str]) -> None:
    """Fill in the variables of every text value; keys stay as they are."""
    tree.root = _fill(tree, (), tree.root, environ)


def fill_in_place(tree: Tree, place: Place, text: str, environ: Mapping[str, str]) -> str:
    """Return the filled-in text of one place, and note what it was before."""
    try:
        filled = fill_in(text, environ)
    except BadVariable as error:
        tree.blame(place, str(error))
        return text
    if names_in(text):
        tree.unfilled[place] = text
    return filled


def _fill(tree: Tree, place: Place, value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(tree, (*place, key), item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(tree, (*place, index), item, environ) for index, item in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        return fill_in_place(tree, place, value, environ)
    return value
