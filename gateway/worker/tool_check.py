"""Refuses tools where the model's template has no place for them: llama.cpp would leave them out in silence.

Stands between the front and an engine that renders templates at `/apply-template`. What a template is asked for is
seen in what comes out of it, so that nothing is guessed from its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.told import refuse

CHAT, TEMPLATE = "/v1/chat/completions", "/apply-template"
_FIELDS = ("tools", "tool_choice")
_NAME = "look_up_the_colour_of_a_word"
_PROBE: Mapping[str, Any] = MappingProxyType(
    {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": _NAME,
                    "description": "Tell a colour.",
                    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
                },
            }
        ],
    }
)


class ToolCheck:
    """Asks `model`, except for tools that its template does not take."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._takes_tools: bool | None = None

    async def ask(self, path: str, body: Body) -> Answer:
        named = next((name for name in _FIELDS if body.get(name) not in (None, [], "none", "auto")), None)
        if path != CHAT or named is None or await self._knows_tools():
            return await self._model.ask(path, body)
        message = f"'{named}' is not supported by this model: its chat template has no place for tools."
        return refuse(400, "unsupported_parameter", "invalid_request_error", message, named)

    async def close(self) -> None:
        await self._model.close()

    async def _knows_tools(self) -> bool:
        if self._takes_tools is None:
            answer = await self._model.ask(TEMPLATE, dict(_PROBE))
            try:
                rendered = b"".join([piece async for piece in answer])
            finally:
                await answer.close()
            self._takes_tools = answer.status == 200 and _NAME.encode() in rendered
        return self._takes_tools
