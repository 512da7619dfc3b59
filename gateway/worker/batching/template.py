"""The model's own chat template, rendered with no trust in it: it came with a file from somewhere.

jinja2's sandbox keeps a template from code; from running on and from growing without end it is kept here: every loop,
call, concatenation and multiplication is counted before it is done. What must not live here: the meaning of messages.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from gateway.worker.batching.refusals import Refusal

LONGEST_TEMPLATE = 1 << 18  # characters
LONGEST_TEXT = 1 << 25  # of all that one rendering makes, beside copies of what it is given
MOST_COPIES = 16
LONGEST_RANGE = 10_000
LARGEST_NUMBER = 1 << 64
RENDER_SECONDS = 2.0

_FILTERS = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "indent", "int",
        "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace",
        "reverse", "round", "safe", "select", "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique",
        "upper",
    }
)  # fmt: skip
# They make no text and look at nothing within what they are given.
_FREE_FILTERS = frozenset({"count", "d", "default", "first", "last", "length"})
_TESTS = frozenset(
    {
        "!=", "==", "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "in", "integer",
        "iterable", "mapping", "ne", "none", "number", "odd", "sequence", "string", "true", "undefined",
    }
)  # fmt: skip
_GLOBALS = frozenset({"range", "dict", "namespace"})
_TEXT_METHODS = frozenset(
    {
        "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit", "islower", "isspace",
        "isupper", "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex",
        "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper",
    }
)  # fmt: skip
_SCOPES = ("_loop_vars", "_block_vars")  # jinja2 adds them to what a call is given


class RaisedByTemplate(Exception):
    """The template says that it cannot take these messages."""


class _Budget:
    """What one rendering may still use."""

    def __init__(self, clock: Callable[[], float], seconds: float, given: int = 0) -> None:
        self._clock = clock
        self._until = clock() + seconds
        self._left = LONGEST_TEXT + given * MOST_COPIES

    def spend(self, size: int) -> None:
        self._left -= size + 1
        if self._left < 0:
            raise SecurityError("it makes too much text")
        if self._clock() > self._until:
            raise SecurityError("it takes too long")


class ChatTemplate:
    """One template; raises Refusal with status 422 and code `bad_template` when it cannot be used.

    `bos` and `eos` are the texts of the tokens that begin and end a text.
    """

    def __init__(
        self, source: str, bos: str = "", eos: str = "", *, clock: Callable[[], float] = time.thread_time,
        seconds: float = RENDER_SECONDS,
    ) -> None:  # fmt: skip
        self.source = source
        self._names = {"bos_token": bos, "eos_token": eos}
        self._clock = clock
        self._seconds = seconds
        self._rendering = threading.Lock()
        if len(source) > LONGEST_TEMPLATE:
            _refuse(f"it is longer than {LONGEST_TEMPLATE} characters")
        try:
            self._environment = _Guarded()
            self._template = self._environment.from_string(source)
        except (TemplateError, RecursionError, OverflowError, ValueError) as error:
            _refuse(str(error))

    def render(self, messages: Sequence[Mapping[str, Any]], **more: Any) -> str:
        """Return the prompt for `messages`; `more` are further names of the template. Any thread may call."""
        with self._rendering:
            given = sum(len(str(message.get("content", ""))) for message in messages)
            return self._render({**self._names, "messages": messages, "add_generation_prompt": True, **more}, given)

    def _render(self, names: Mapping[str, Any], given: int) -> str:
        self._environment.budget = budget = _Budget(self._clock, self._seconds, given)
        parts: list[str] = []
        try:
            for part in self._template.generate(names):
                budget.spend(len(part))
                parts.append(part)
        except RaisedByTemplate as error:
            raise Refusal(f"The chat template of this model: {str(error)[:200]}", param="messages") from error
        except (UndefinedError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise Refusal(
                f"The chat template of this model cannot take these messages: {str(error)[:200]}", param="messages"
            ) from error
        except (TemplateError, RecursionError, MemoryError, ArithmeticError) as error:
            _refuse(str(error) or type(error).__name__)
        return "".join(parts)


def _refuse(reason: str) -> NoReturn:
    raise Refusal(f"The chat template of this model cannot be used: {reason[:200]}", status=422, code="bad_template")


class _Guarded(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        self.budget = _Budget(time.thread_time, RENDER_SECONDS)
        self._macro_text = 0
        kept = {
            name: one if name in _FREE_FILTERS else self._measured(one)
            for name, one in self.filters.items()
            if name in _FILTERS
        }
        self.filters = kept | {
            "tojson": self._to_json, "replace": self._replace, "join": self._join, "indent": self._indent,
            "watched": self._watched, "concatenated": self._concatenated, "made": self._told,
        }  # fmt: skip
        self.tests = {name: one for name, one in self.tests.items() if name in _TESTS}
        self.globals = {name: one for name, one in self.globals.items() if name in _GLOBALS}
        self.globals |= {"range": self._range, "raise_exception": _raise}
        self.finalize = self._told

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        if any(tree.find(kind) is not None for kind in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            raise SecurityError("there is no other template to include")
        self._macro_text = sum(_static_text(node) for node in tree.find_all((nodes.Macro, nodes.CallBlock)))
        watched: nodes.Template = _Watch().visit(tree)
        return watched

    # What grows is measured before it is made.

    def _measured(self, one: Callable[..., Any]) -> Callable[..., Any]:
        passes = getattr(one, "jinja_pass_arg", None)

        def measured(*args: Any, **kwargs: Any) -> Any:
            for value in args[1:] if passes is not None else args:
                self.budget.spend(self._size(value))
            return one(*args, **kwargs)

        if passes is not None:
            measured.jinja_pass_arg = passes  # type: ignore[attr-defined]  # jinja2's own way to mark a filter
        return measured

    def _size(self, value: Any) -> int:
        if isinstance(value, str | bytes):
            return len(value)
        if not isinstance(value, Mapping | list | tuple | set):
            return 8
        total = 2
        for part in [*value.keys(), *value.values()] if isinstance(value, Mapping) else value:
            self.budget.spend(0)  # a list of lists of the same list is small and has no end
            total += self._size(part)
        return total

    def _told(self, value: Any) -> Any:
        self.budget.spend(self._size(value))
        return value

    def _watched(self, values: Any, weight: int) -> Iterator[Any]:
        for value in values:
            self.budget.spend(weight)
            yield value

    def _concatenated(self, values: Sequence[Any]) -> str:
        return "".join(str(self._told(value)) for value in values)

    def _to_json(self, value: Any, indent: int | None = None, **options: Any) -> str:
        size = self._size(value)
        self.budget.spend(size * max(min(int(indent or 0), 32), 1))
        known = {name: options[name] for name in ("ensure_ascii", "sort_keys", "separators") if name in options}
        return json.dumps(value, indent=min(int(indent), 32) if indent else None, **{"ensure_ascii": False, **known})

    def _replace(self, text: str, old: str, new: str, count: int = -1) -> str:
        text, old, new = str(text), str(old), str(new)
        self.budget.spend(len(text) + (text.count(old) if count is None or count < 0 else count) * len(new))
        return text.replace(old, new, -1 if count is None else count)

    def _join(self, values: Any, between: str = "", attribute: str | None = None) -> str:
        parts = [value if attribute is None else self.getitem(value, attribute) for value in self._watched(values, 0)]
        self.budget.spend(self._size(parts) + len(parts) * len(between))
        return str(between).join(str(part) for part in parts)

    def _indent(self, text: str, width: int = 4, first: bool = False) -> str:  # as in jinja2
        text = str(text)
        margin = " " * max(0, min(int(width), 32))
        self.budget.spend(len(text) + text.count("\n") * len(margin))
        return (margin if first else "") + text.replace("\n", "\n" + margin)

    def _range(self, *limits: int) -> range:
        found = range(*limits)
        if len(found) > LONGEST_RANGE:
            raise SecurityError(f"a range has more than {LONGEST_RANGE} numbers")
        return found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"the operator {operator} is not permitted")
        if isinstance(left, int | float) and isinstance(right, int | float):
            if max(abs(left), abs(right)) > LARGEST_NUMBER:
                raise SecurityError("a number is too large")
        elif operator == "*":
            factor = right if isinstance(right, int) else left if isinstance(left, int) else 1
            self.budget.spend((self._size(left) + self._size(right)) * max(factor, 1))
        else:
            self.budget.spend(self._size(left) + self._size(right))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr not in _TEXT_METHODS:
            return False
        if isinstance(obj, bytes | int | float):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        return None  # `is_safe_attribute` refuses it: a width in a format makes text of any length

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as in jinja2
        given = {name: value for name, value in kwargs.items() if name not in _SCOPES}
        __self.budget.spend(__self._macro_text + __self._size([*args, given]))
        bound = getattr(__obj, "__self__", None)
        if isinstance(bound, str):
            if __obj.__name__ == "replace":
                return __self._replace(bound, *args)
            if __obj.__name__ == "join":
                return __self._join(args[0] if args else (), bound)
            __self.budget.spend(len(bound))
        return super().call(__context, __obj, *args, **kwargs)


class _Watch(NodeTransformer):
    # The names are jinja2's.
    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        weight = _static_text(node)
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "watched", [nodes.Const(weight)], [], None, None, lineno=node.lineno)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        """Measure what is made: a list of twice the same list, again and again, is compared or hashed without end."""
        self.generic_visit(node)
        return nodes.Filter(node, "made", [], [], None, None, lineno=node.lineno)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return nodes.Filter(node, "made", [], [], None, None, lineno=node.lineno)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.ctx != "load":
            return node
        return nodes.Filter(node, "made", [], [], None, None, lineno=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "concatenated", [], [], None, None, lineno=node.lineno)


def _static_text(node: nodes.Node) -> int:
    return sum(len(data.data) for data in node.find_all(nodes.TemplateData))


def _raise(message: str) -> NoReturn:
    raise RaisedByTemplate(message)
