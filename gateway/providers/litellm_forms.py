"""The forms of chat requests that litellm would drop or invent something for without a word, refused by name instead.

Only what can be told from the request at little cost, and only for wires whose translation is known here; nothing is
ever altered. What litellm refuses by itself is told in `litellm_refusals.py`, what no upstream takes in `wire/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from gateway.errors import UpstreamRejected


@dataclass(frozen=True, slots=True)
class _Wire:
    """Which parts of messages, and which tools besides functions, are carried to one kind of upstream."""

    user: tuple[str, ...]
    assistant: tuple[str, ...]
    tools: re.Pattern[str]
    takes_function_calls: bool = True
    takes_blanks: bool = False  # text of nothing but spaces; litellm puts a sentence of its own in its place


_TEXT = ("text",)
_RESULT = ("text", "image_url", "file")
_DATED = re.compile(r"[a-z_]+_20\d{6}|mcp")
_ANTHROPIC = _Wire(("text", "image_url", "file", "document"), ("text", "thinking"), _DATED, takes_function_calls=False)
_BEDROCK = _Wire(
    ("text", "image_url", "file", "document", "guarded_text", "grounding_source", "query"),
    ("text", "thinking"),
    re.compile(r"(?:bash|computer|text_editor)_20\d{6}"),
    takes_function_calls=False,
)
_GOOGLE = _Wire(
    ("text", "image_url", "file", "input_audio"),
    _TEXT,
    re.compile("web_search|web_search_preview|computer_use"),
    takes_blanks=True,
)
_WIRES: Mapping[str, _Wire] = {"anthropic": _ANTHROPIC, "bedrock": _BEDROCK, "gemini": _GOOGLE}
_INSTRUCTIONS = frozenset({"developer", "system"})
_CHOICES = ("none", "auto", "required")
_FORMATS = ("text", "json_object", "json_schema")
_THOUGHTS = ("thinking", "redacted_thinking")
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[^,;]+)*;base64,[A-Za-z0-9+/][A-Za-z0-9+/=\s]*", re.ASCII)
_NAMES: Mapping[type, str] = {str: "a string", list: "an array", dict: "an object"}
_TYPES: Mapping[str, type] = {
    "audio": dict,
    "functions": list,
    "modalities": list,
    "prediction": dict,
    "web_search_options": dict,
}


@dataclass(slots=True)
class _Talk:
    """What the messages before said."""

    calls: set[str] = field(default_factory=set)


def check_forms(fields: Mapping[str, Any], prefix: str, model: str) -> None:
    """Raise UpstreamRejected, its `param` naming the place, for what would not arrive as it was sent."""
    wire = _wire(prefix, model)
    if wire is None:
        return
    for name, kind in _TYPES.items():
        if name in fields:
            _expect(fields[name], kind, name)
    talk = _Talk()
    _check_asks(fields.get("messages") or ())
    for index, message in enumerate(fields.get("messages") or ()):
        _check_message(message, f"messages[{index}]", wire, talk)
    for index, tool in enumerate(fields.get("tools") or ()):
        _check_tool(tool, f"tools[{index}]", wire)
    _check_choice(fields.get("tool_choice"), fields.get("tools") or ())
    _check_format(fields.get("response_format"))


def _wire(prefix: str, model: str) -> _Wire | None:
    if prefix == "vertex_ai":
        return _ANTHROPIC if model.startswith("claude") else _GOOGLE if model.startswith("gemini") else None
    return _WIRES.get(prefix)


def _check_message(message: Mapping[str, Any], path: str, wire: _Wire, talk: _Talk) -> None:
    role = message["role"]
    if isinstance(message.get("content"), list):
        taken = {"user": wire.user, "assistant": wire.assistant, "tool": _RESULT, "function": _RESULT}.get(role, _TEXT)
        for index, part in enumerate(message["content"]):
            _check_part(part, f"{path}.content[{index}]", taken)
    if role == "user":
        _check_question(message.get("content"), f"{path}.content", wire)
    elif role == "assistant":
        _check_answer(message, path, wire, talk)
    elif role == "tool" and message.get("tool_call_id") not in talk.calls:
        _refuse("No message before it calls a tool by this id", f"{path}.tool_call_id")
    elif role == "function":
        _check_legacy(wire, f"{path}.role")
        _expect(message.get("name"), str, f"{path}.name")
        _expect(message.get("content"), (str, list), f"{path}.content")


def _check_asks(messages: Any) -> None:
    if messages and all(message["role"] in _INSTRUCTIONS for message in messages):
        _refuse("This upstream answers no instructions alone; send a message of the role 'user'", "messages")


def _check_question(content: Any, path: str, wire: _Wire) -> None:
    if content == []:
        _refuse("Expected at least one part", path)
    if wire.takes_blanks:
        return
    parts = content if isinstance(content, list) else ()
    texts = [(part.get("text"), f"{path}[{index}].text") for index, part in enumerate(parts)]
    for text, place in [(content, path), *texts]:
        if isinstance(text, str) and not text.strip():
            _refuse("This upstream takes no text of nothing but spaces", place)


def _check_part(part: Mapping[str, Any], path: str, taken: tuple[str, ...]) -> None:
    kind = part.get("type")
    if kind not in taken:
        _refuse(f"Supported values here are {_listed(taken)}", f"{path}.type")
    check = _PARTS.get(kind)
    if check is not None:
        check(part, path)


def _check_text(part: Mapping[str, Any], path: str) -> None:
    _expect(part.get("text"), str, f"{path}.text")


def _check_image(part: Mapping[str, Any], path: str) -> None:
    image, path = part.get("image_url"), f"{path}.image_url"
    if not isinstance(image, str):
        _expect(image, dict, path)
        image, path = dict(image or {}).get("url"), f"{path}.url"
    _check_data(image, path, "invalid_image_url")


def _check_file(part: Mapping[str, Any], path: str) -> None:
    _expect(part.get("file"), dict, f"{path}.file")
    _check_data(part["file"].get("file_data"), f"{path}.file.file_data", "invalid_value")


def _check_audio(part: Mapping[str, Any], path: str) -> None:
    _expect(part.get("input_audio"), dict, f"{path}.input_audio")
    for name in ("data", "format"):
        _expect(part["input_audio"].get(name), str, f"{path}.input_audio.{name}")


def _check_document(part: Mapping[str, Any], path: str) -> None:
    _expect(part.get("source"), dict, f"{path}.source")


def _check_thinking(part: Mapping[str, Any], path: str) -> None:
    _expect(part.get("thinking"), str, f"{path}.thinking")


_PARTS: Mapping[str, Callable[[Mapping[str, Any], str], None]] = {
    "text": _check_text,
    "guarded_text": _check_text,
    "grounding_source": _check_text,
    "query": _check_text,
    "image_url": _check_image,
    "file": _check_file,
    "input_audio": _check_audio,
    "document": _check_document,
    "thinking": _check_thinking,
}


def _check_data(url: Any, path: str, code: str) -> None:
    _expect(url, str, path)
    if not _DATA_URL.fullmatch(url):
        _refuse("Expected a data: URL with a media type and base64: 'data:image/png;base64,…'", path, code)


def _check_answer(message: Mapping[str, Any], path: str, wire: _Wire, talk: _Talk) -> None:
    for name in ("audio", "refusal"):
        if message.get(name):
            _refuse("This upstream has no word for it; send it as text in 'content'", f"{path}.{name}")
    thoughts = message.get("thinking_blocks")
    if thoughts is not None:
        _expect(thoughts, list, f"{path}.thinking_blocks")
        for index, block in enumerate(thoughts):
            _expect(block, dict, f"{path}.thinking_blocks[{index}]")
            if block.get("type") not in _THOUGHTS:
                _refuse(f"Supported values here are {_listed(_THOUGHTS)}", f"{path}.thinking_blocks[{index}].type")
    for index, call in enumerate(message.get("tool_calls") or ()):
        _check_call(call, f"{path}.tool_calls[{index}]")
        talk.calls.add(call["id"])
    if message.get("function_call") is not None:
        _check_legacy(wire, f"{path}.function_call")
        _check_function(message["function_call"], f"{path}.function_call")


def _check_call(call: Mapping[str, Any], path: str) -> None:
    if call.get("type") != "function":
        _refuse("Only calls of functions are known to this upstream, with type 'function'", f"{path}.type")
    _expect(call.get("id"), str, f"{path}.id")
    _check_function(call.get("function"), f"{path}.function")


def _check_function(function: Any, path: str) -> None:
    _expect(function, dict, path)
    _expect(function.get("name"), str, f"{path}.name")
    arguments = function.get("arguments")
    _expect(arguments, str, f"{path}.arguments")
    if arguments and not _is_object(arguments):
        _refuse("Expected a JSON object in a string", f"{path}.arguments")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)  # as litellm reads it
    except (ValueError, RecursionError):
        return False


def _check_legacy(wire: _Wire, path: str) -> None:
    if not wire.takes_function_calls:
        _refuse("This upstream knows 'tool_calls' and messages of the role 'tool' only", path)


def _check_tool(tool: Mapping[str, Any], path: str, wire: _Wire) -> None:
    kind = tool.get("type")
    if kind == "function":
        # Its `strict` is let go where there is no word for it: clients set it on every tool, the schema says the same
        # as without it, and arguments are for the caller to check, as everywhere.
        _expect(tool.get("function"), dict, f"{path}.function")
        if tool["function"].get("parameters") is not None:
            _expect(tool["function"]["parameters"], dict, f"{path}.function.parameters")
    elif not (isinstance(kind, str) and wire.tools.fullmatch(kind)):
        _refuse("This upstream has no tools of this type; 'function' is the usual one", f"{path}.type")


def _check_choice(choice: Any, tools: Any) -> None:
    if choice is None:
        return
    if not isinstance(choice, dict):
        if choice not in _CHOICES:
            _refuse(f"Supported values are {_listed(_CHOICES)} and an object that names a function", "tool_choice")
        return
    if choice.get("type") != "function":
        _refuse("Supported here is 'function' only", "tool_choice.type")
    _expect(choice.get("function"), dict, "tool_choice.function")
    name = choice["function"].get("name")
    _expect(name, str, "tool_choice.function.name")
    if name not in [tool["function"].get("name") for tool in tools if tool.get("type") == "function"]:
        _refuse("No function of this name is among the 'tools'", "tool_choice.function.name")


def _check_format(wanted: Any) -> None:
    if wanted is None:
        return
    if wanted.get("type") not in _FORMATS:
        _refuse(f"Supported values are {_listed(_FORMATS)}", "response_format.type")
    if wanted.get("response_schema") is not None:
        _expect(wanted["response_schema"], dict, "response_format.response_schema")
    if wanted["type"] == "json_schema":
        _expect(wanted.get("json_schema"), dict, "response_format.json_schema")
        _expect(wanted["json_schema"].get("schema"), dict, "response_format.json_schema.schema")


def _expect(value: Any, kind: type | tuple[type, ...], path: str) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if value is None:
        _raise(f"Missing required parameter: '{path}'.", path, "missing_required_parameter")
    if not isinstance(value, kinds):
        expected = " or ".join(_NAMES[one] for one in kinds)
        _raise(f"Invalid type for '{path}': expected {expected}.", path, "invalid_type")


def _refuse(why: str, path: str, code: str = "invalid_value") -> NoReturn:
    _raise(f"Invalid value for '{path}'. {why}.", path, code)


def _raise(sentence: str, path: str, code: str) -> NoReturn:
    raise UpstreamRejected(sentence, param=path, code=code)


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)
