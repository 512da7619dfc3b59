"""Turns what pydantic-core found into the sentence, `param` and `code` that OpenAI would have answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.errors import InvalidRequest

# pydantic-core's error type → what was expected, in OpenAI's words
_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "union_tag_not_found": "one of its documented forms",
    "union_tag_invalid": "one of its documented forms",
}
_FORMS = {
    "content": "a string or an array of content parts",
    "stop": "a string or an array of strings",
    "input": "a string, an array of strings, an array of token ids or an array of those",
    "prompt": "a string, an array of strings, an array of token ids or an array of those",
    "tool_choice": "a string or an object",
}


def explain(found: Mapping[str, Any]) -> InvalidRequest:
    """Return the error for one entry of `ValidationError.errors()`."""
    path = _path(found["loc"])
    kind = found["type"]
    if kind == "missing":
        return _invalid(f"Missing required parameter: '{path}'.", path, "missing_required_parameter")
    if kind in _EXPECTED:
        expected = _FORMS.get(path.rpartition(".")[2], _EXPECTED[kind])
        got = _name(found["input"])
        return _invalid(f"Invalid type for '{path}': expected {expected}, but got {got} instead.", path, "invalid_type")
    sentence = _SENTENCES.get(kind)
    if sentence is None:
        return _invalid(f"Invalid value for '{path}': {found['msg']}.", path, "invalid_value")
    text, code = sentence(path, found["ctx"], found["input"])
    return _invalid(text, path, code)


def _literal(path: str, context: Mapping[str, Any], value: Any) -> tuple[str, str]:
    return f"Invalid value for '{path}': {_quote(value)}. Supported values are: {context['expected']}.", "invalid_value"


def _above(path: str, context: Mapping[str, Any], value: Any) -> tuple[str, str]:
    limit = context.get("le", context.get("lt"))
    return _out_of_range(path, value, "above maximum", "<=" if "le" in context else "<", limit)


def _below(path: str, context: Mapping[str, Any], value: Any) -> tuple[str, str]:
    return _out_of_range(path, value, "below minimum", ">=", context["ge"])


def _out_of_range(path: str, value: Any, side: str, sign: str, limit: Any) -> tuple[str, str]:
    noun = "integer" if isinstance(value, int) else "decimal"
    code = f"{noun}_{side.replace(' ', '_')[:5]}_{'max' if 'max' in side else 'min'}_value"
    return (
        f"Invalid '{path}': {noun} {side} value. Expected a value {sign} {limit}, but got {_quote(value)} instead.",
        code,
    )


def _short(path: str, context: Mapping[str, Any], value: Any) -> tuple[str, str]:
    noun = "string" if isinstance(value, str) else "array"
    text = f"Invalid '{path}': empty {noun}. Expected one with minimum length {context['min_length']}, but got an empty {noun} instead."
    return text, f"empty_{noun}"


def _long(path: str, context: Mapping[str, Any], value: Any) -> tuple[str, str]:
    text = f"Invalid '{path}': array too long. Expected one with maximum length {context['max_length']}, but got length {len(value)} instead."
    return text, "array_above_max_length"


_SENTENCES: dict[str, Callable[[str, Mapping[str, Any], Any], tuple[str, str]]] = {
    "literal_error": _literal,
    "less_than_equal": _above,
    "less_than": _above,
    "greater_than_equal": _below,
    "too_short": _short,
    "string_too_short": _short,
    "too_long": _long,
}


def _invalid(message: str, path: str, code: str) -> InvalidRequest:
    return InvalidRequest(message, param=path or None, code=code)


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("~"):  # the name of a form, not of a field
            path += f".{step}" if path else step
    return path


def _name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    for kind, name in ((str, "a string"), (int, "an integer"), (float, "a decimal"), (list, "an array")):
        if isinstance(value, kind):
            return name
    return "an object"


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 64 else text[:61] + "..."
