"""Tools reach only models whose template has a place for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.worker.tool_check import CHAT, TEMPLATE, ToolCheck

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


class Said:
    """An answer with this body."""

    content_type = "application/json"

    def __init__(self, body: str, status: int = 200) -> None:
        self.status = status
        self._body = body.encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body[:7]
        yield self._body[7:]

    async def close(self) -> None:
        return None


class Model:
    """A model whose template is `{tools}`, or has no place for them."""

    def __init__(self, *, knows_tools: bool, status: int = 200) -> None:
        self.asked: list[str] = []
        self._knows_tools = knows_tools
        self._status = status

    async def ask(self, path: str, body: Any) -> Said:
        self.asked.append(path)
        if path == TEMPLATE:
            return Said(json.dumps({"prompt": str(body["tools"]) if self._knows_tools else "Hi"}), self._status)
        return Said("{}")

    async def close(self) -> None:
        return None


async def test_a_template_is_asked_once_and_tools_reach_it() -> None:
    model = Model(knows_tools=True)
    checked = ToolCheck(model)

    for _ in range(2):
        answer = await checked.ask(CHAT, {"tools": TOOLS, "tool_choice": "required"})

        assert answer.status == 200
    assert model.asked == [TEMPLATE, CHAT, CHAT]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"tools": TOOLS, "tool_choice": "none"}, "tools"),
        ({"tools": TOOLS, "tool_choice": "auto"}, "tools"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ],
)
async def test_a_template_without_a_place_for_tools_gets_none(fields: dict[str, Any], param: str) -> None:
    model = Model(knows_tools=False)

    answer = await ToolCheck(model).ask(CHAT, fields)

    error = json.loads(b"".join([piece async for piece in answer]))["error"]
    assert answer.status == 400
    assert (error["code"], error["param"]) == ("unsupported_parameter", param)
    assert model.asked == [TEMPLATE]


async def test_a_template_that_fails_on_tools_gets_none() -> None:
    answer = await ToolCheck(Model(knows_tools=True, status=500)).ask(CHAT, {"tools": TOOLS})

    assert answer.status == 400


@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": None, "tool_choice": "auto"}, {"tool_choice": "none"}])
async def test_who_asks_for_no_tools_is_not_looked_at(fields: dict[str, Any]) -> None:
    model = Model(knows_tools=False)

    await ToolCheck(model).ask(CHAT, fields)

    assert model.asked == [CHAT]
