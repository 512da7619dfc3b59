"""The JSON Schema of the configuration file, for editors: `python -m gateway.config.schema FILE` writes it.

It describes what may be written, before presets and variables are filled in, and is made from the same models that
check the file; nothing is stated here that they know.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gateway.config.document import NAME_PATTERN, Document
from gateway.config.filling import kinds, wire_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_OF_WIRE = {"openai": "OpenAISettings", "litellm": "LiteLLMSettings", "llamacpp": "LlamaCppSettings"}
_KINDS = {
    "openai": "openai with a base_url is any server that speaks the OpenAI wire; the others are presets.",
    "litellm": "litellm with a prefix is a provider of litellm's; the others are presets.",
    "llamacpp": "GGUF models that the gateway runs on this machine; llamalocal has settings of its own.",
}
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_NOTHING = {"type": "null"}
_LEFT_OUT = frozenset({"discriminator", "format", "title", "writeOnly"})


def schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12."""
    made = Document.model_json_schema()
    definitions: dict[str, Any] = made["$defs"]
    _loosen_providers(made, definitions)
    long_form = definitions["DeploymentSettings"]
    definitions["DeploymentSettings"] = {
        "anyOf": [long_form, {"type": "string", "pattern": "^[^/]+/.+$", "description": "provider/model"}]
    }
    local = definitions["LlamaCppSettings"]["properties"]["models"]
    local["additionalProperties"] = {"anyOf": [local["additionalProperties"], _NOTHING]}
    for name, section in made["properties"].items():
        made["properties"][name] = {"anyOf": [section, _NOTHING]}
    made["required"] = ["providers"]
    return {"$schema": DIALECT, **_with_variables(made), "title": "gateway.yaml"}


def main(arguments: list[str]) -> int:
    """Write the schema to the file named in the arguments, or to standard output."""
    text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    if arguments:
        Path(arguments[0]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def _loosen_providers(made: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Let an entry be short: a preset, by name or as its kind, knows the endpoint."""
    wires = {kind: wire_of(kind) for kind in kinds()}
    for wire, name in _OF_WIRE.items():
        shape = definitions[name]
        shape["properties"]["kind"] = {
            "enum": [kind for kind, its_wire in wires.items() if its_wire == wire],
            "description": _KINDS[wire],
        }
        shape["required"] = []
    local = definitions["LlamaCppSettings"]
    url = {"if": {"properties": {"kind": {"const": "openai"}}}, "then": {"required": ["base_url"]}}
    prefix = {"if": {"properties": {"kind": {"const": "litellm"}}}, "then": {"required": ["prefix"]}}
    entry = {
        "if": {"properties": {"kind": {"enum": _kinds_of(wires, "llamacpp")}}, "required": ["kind"]},
        "then": {"$ref": "#/$defs/LlamaCppSettings"},
        "else": {
            "if": {"properties": {"kind": {"enum": _kinds_of(wires, "litellm")}}, "required": ["kind"]},
            "then": {"allOf": [{"$ref": "#/$defs/LiteLLMSettings"}, prefix]},
            "else": {"allOf": [{"$ref": "#/$defs/OpenAISettings"}, {"required": ["kind"]}, url]},
        },
    }
    providers = made["properties"]["providers"]
    ((pattern, _),) = providers.pop("patternProperties").items()
    # An entry that is called after a preset may still be of another kind, which it says then.
    providers["properties"] = {
        name: {"anyOf": [{"$ref": f"#/$defs/{_OF_WIRE[wire]}"}, entry, _NOTHING]}
        for name, wire in wires.items()
        if name not in ("litellm",)
    }
    providers["additionalProperties"] = entry
    providers["propertyNames"] = {"pattern": pattern}
    local["properties"]["models"]["propertyNames"] = {"pattern": NAME_PATTERN}


def _kinds_of(wires: dict[str, str], wire: str) -> list[str]:
    return [kind for kind, its_wire in wires.items() if its_wire == wire]


def _with_variables(node: Any) -> Any:
    """Allow `${NAME}` wherever something else than text is expected."""
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _inner(key, value) for key, value in node.items() if key not in _LEFT_OUT}
    if node.get("type") in ("integer", "number", "boolean") or "enum" in node or "const" in node:
        kept = {key: plain.pop(key) for key in ("description", "default") if key in plain}
        return {**kept, "anyOf": [plain, _VARIABLE]}
    return plain


def _inner(key: str, value: Any) -> Any:
    if key in ("properties", "$defs"):
        return {name: _with_variables(shape) for name, shape in value.items()}
    return value if key in ("propertyNames", "if", "default", "enum", "const") else _with_variables(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
