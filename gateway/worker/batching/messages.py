"""The messages and tools of a chat request, in the shape that chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from gateway.worker.batching.refusals import Refusal, unsupported
from gateway.worker.batching.speech import CALL, CALLED, THINK, THOUGHT

Message = dict[str, Any]


class Abilities:
    """What a template can do, read from its text.

    `calls` only for the form that `speech.py` reads: a JSON object with `name` and `arguments` between tags.
    """

    def __init__(self, template: str) -> None:
        self.knows_tools = "tools" in template and "tool_call" in template
        self.calls = self.knows_tools and CALL in template and "arguments" in template and "<function=" not in template
        self.thinks = THOUGHT in template or THINK in template
        self.can_stop_thinking = "enable_thinking" in template
        self.takes_effort = "reasoning_effort" in template
        self.knows_developer = "developer" in template


def read_messages(given: Any, abilities: Abilities) -> list[Message]:
    """Return the messages of a request for the template; raises Refusal."""
    if not isinstance(given, list):
        raise Refusal("Expected 'messages' to be an array", param="messages")
    return [_read(message, abilities) for message in given]


def _read(message: Any, abilities: Abilities) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise Refusal("Each message must be an object with a 'role'", param="messages")
    role = message["role"]
    calls = message.get("tool_calls")
    if message.get("content") is None and not (role == "assistant" and calls):
        raise Refusal("Each message must have 'content'", param="messages")
    if (calls or role in ("tool", "function")) and not abilities.knows_tools:
        raise unsupported("messages", "This model's template knows no tools, so it takes no calls or answers of tools.")
    if role == "developer" and not abilities.knows_developer:
        role = "system"
    read: Message = {"role": role, "content": _text(message.get("content"))}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if isinstance(message.get(name), str):
            read[name] = message[name]
    if calls:
        read["tool_calls"] = [_call(call) for call in calls] if isinstance(calls, list) else _bad_call()
    return read


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refusal("'content' must be text or an array of parts", param="messages")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "refusal"):
            what = {"image_url": "image", "input_audio": "audio"}.get(str(kind), str(kind)[:20])
            raise unsupported("messages", f"{what} input is not supported by this model.")
        if not isinstance(part.get(kind), str):
            raise Refusal(f"A part of type '{kind}' must have a text", param="messages")
        texts.append(part[kind])
    return "\n".join(texts)


def _call(call: Any) -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        _bad_call()
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            _bad_call()
    function = {"name": function["name"], "arguments": arguments}
    return {"id": str(call.get("id") or ""), "type": "function", "function": function}


def _bad_call() -> NoReturn:
    raise Refusal("Each of 'tool_calls' must have a function with a 'name' and JSON 'arguments'", param="messages")


def read_tools(body: Mapping[str, Any], abilities: Abilities) -> list[Message]:
    """Return the tools that the model may call; raises Refusal."""
    tools = body.get("tools") or []
    choice = body.get("tool_choice")
    if not isinstance(tools, list):
        raise Refusal("Expected 'tools' to be an array", param="tools")
    if not tools and choice not in (None, "none", "auto"):
        raise Refusal("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if choice == "none" or not tools:
        return []
    if not abilities.calls:
        raise unsupported("tools", "Tools are not supported by this model: its template does not tell of them.")
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Refusal("Each of 'tools' must be a function with a 'name'", param="tools")
    return tools


def forced_tools(choice: Any, tools: list[Message]) -> list[Message]:
    """Return those of `tools` one of which must be called, none where the model may choose; raises Refusal."""
    if choice in (None, "auto", "none"):
        return []
    if choice == "required":
        return tools
    function = choice.get("function") if isinstance(choice, Mapping) and choice.get("type") == "function" else None
    if not isinstance(function, Mapping):
        raise unsupported("tool_choice", f"This 'tool_choice' is not supported: {str(choice)[:60]}")
    forced = [tool for tool in tools if tool["function"]["name"] == function.get("name")]
    if not forced:
        raise Refusal("'tool_choice' names a function that is not among 'tools'", param="tool_choice")
    return forced


def tagged_call(grammar: str) -> str:
    """Return a grammar of `grammar` between the tags of a call."""
    lines = [f"called {line[5:]}" if line.startswith("root ") else line for line in grammar.splitlines()]
    return "\n".join([f'root ::= "{CALL}\\n" called "\\n{CALLED}"', *lines])
