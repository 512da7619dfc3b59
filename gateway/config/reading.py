"""YAML text to a Tree: every value plain, every place with its line, nothing that grows without a bound.

What the values mean is decided elsewhere; variables are filled in by `variables.py`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.tree import Place, Tree
from gateway.mistakes import ConfigError, Mistake

MOST_BYTES = 1024 * 1024
MOST_VALUES = 20_000  # with aliases a short file can stand for billions
DEEPEST = 40

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_QUOTED = re.compile(r"'[A-Za-z0-9_-]{2,}'")
_VARIABLE_IN_FLOW = re.compile(r"""[{\[,].*[^"'$]\$\{""")
_TAG = "tag:yaml.org,2002:"
_AS_TEXT = frozenset({f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"})


class _Unusable(Exception):
    """Nothing more can be read; `line` counts from 1, 0 for the file as a whole."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


def read(text: bytes, file: str) -> Tree:
    """Parse the text of a configuration file; raises ConfigError where there is no tree to go on with."""
    tree = Tree(file, {}, {(): 1})
    try:
        root = _Builder(tree).build(_compose(_decode(text)), ())
    except _Unusable as error:
        raise ConfigError([Mistake(file, error.line, "", error.sentence)]) from error
    if not isinstance(root, dict):
        raise ConfigError([Mistake(file, 1, "", "expected a mapping with keys such as server, auth and providers")])
    tree.root = root
    return tree


def _decode(text: bytes) -> str:
    if len(text) > MOST_BYTES:
        raise _Unusable(0, f"the file is larger than {MOST_BYTES} bytes")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _Unusable(line, f"not UTF-8 text (byte 0x{text[error.start]:02x})") from error


def _compose(text: str) -> Node:
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        raise _Unusable(line, f"not valid YAML at column {column}: {_problem(error, text, line)}") from error
    except yaml.reader.ReaderError as error:
        raise _Unusable(0, f"not valid YAML: {error.reason}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an escape such as \UFFFFFFFF
        raise _Unusable(0, "not valid YAML") from error
    if node is None:
        raise _Unusable(0, "the file is empty")
    return node


def _problem(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    """Return what is wrong, without the pieces of the file that parsers quote: they may be secrets."""
    words = [error.context, error.problem] if str(error.problem).startswith("but ") else [error.problem]
    problem = _QUOTED.sub("…", ", ".join(word for word in words if word))
    if line and _VARIABLE_IN_FLOW.search("".join(text.splitlines()[line - 1 : line])):
        return f'{problem}; within {{}} and [] a variable is written in quotes, as "${{NAME}}"'
    return problem


def _check_depth(text: str) -> None:
    """Refuse deep nesting before nodes are composed, which is recursive."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark is not None else 0
                raise _Unusable(line, f"nested more than {DEEPEST} levels deep")
        elif isinstance(event, CollectionEndEvent):
            depth -= 1


class _Builder:
    """Turns nodes into values and writes down their lines."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._scalars = SafeConstructor()
        self._values = 0

    def build(self, node: Node, place: Place) -> Any:
        self._count(node, len(place))
        if isinstance(node, ScalarNode):
            return self._scalar(node, place)
        if isinstance(node, SequenceNode):
            return [self._item(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, place) if isinstance(node, MappingNode) else None

    def _count(self, node: Node, depth: int) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise _Unusable(
                node.start_mark.line + 1, f"more than {MOST_VALUES} values, counting what aliases stand for"
            )
        if depth > DEEPEST:
            raise _Unusable(node.start_mark.line + 1, f"nested more than {DEEPEST} levels deep, counting aliases")

    def _item(self, node: Node, place: Place) -> Any:
        self._tree.lines[place] = node.start_mark.line + 1
        return self.build(node, place)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        own: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == f"{_TAG}merge":
                continue
            if not isinstance(key, ScalarNode):
                self._tree.lines.setdefault(place, line)
                self._tree.blame(place, "expected plain words as keys")
                continue
            at = (*place, key.value)
            if key.value in own:
                self._tree.lines[at] = line
                self._tree.blame(at, f"duplicate key, first on line {own[key.value]}")
                continue
            own[key.value] = self._tree.lines[at] = line
            values[key.value] = self.build(value, at)
        for name, value in self._merged(node, place, len(place)).items():
            if name not in own:
                at = (*place, name)
                self._tree.lines[at] = value.start_mark.line + 1
                values[name] = self.build(value, at)
        return values

    def _merged(self, node: MappingNode, place: Place, depth: int) -> dict[str, Node]:
        """Return the nodes that `<<` brings into a mapping; what is nearer wins."""
        found: dict[str, Node] = {}
        for key, value in node.value:
            if key.tag != f"{_TAG}merge":
                continue
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                self._count(source, depth)
                if not isinstance(source, MappingNode):
                    self._tree.blame((*place, "<<"), "expected a mapping or a list of mappings")
                    continue
                plain = {k.value: v for k, v in source.value if isinstance(k, ScalarNode) and k.tag != f"{_TAG}merge"}
                found = {**self._merged(source, place, depth + 1), **plain, **found}
        return found

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        tag = node.tag.removeprefix(_TAG)
        try:
            if node.tag in _AS_TEXT:
                return node.value
            if tag == "null":
                return None
            if tag == "bool":
                return self._scalars.construct_yaml_bool(node)
            if tag == "int":
                return self._scalars.construct_yaml_int(node)
            if tag == "float" and math.isfinite(number := self._scalars.construct_yaml_float(node)):
                return number
        except (ValueError, KeyError, IndexError, OverflowError):
            self._tree.blame(place, f"expected a value of the YAML type {tag}")
            return None
        self._tree.blame(place, "expected a finite number" if tag == "float" else "expected a value without a YAML tag")
        return None
