"""How long answers may be on Anthropic's wire, which wants it said, and how thinking fits into it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.app import RunningGateway, running
from tests.support.wires import UPSTREAM_KEY, Anthropic, WireUpstream


@asynccontextmanager
async def serving(**deployment: Any) -> AsyncIterator[tuple[RunningGateway, WireUpstream]]:
    """Serve `small` by one deployment over the preset."""
    async with WireUpstream(Anthropic()) as upstream:
        provider = {"base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        route = {"deployments": [{"provider": "anthropic", "model": "claude-sonnet-4-5", **deployment}]}
        async with running(json.dumps({"providers": {"anthropic": provider}, "models": {"small": route}})) as gateway:
            yield gateway, upstream


BUDGETS = [("low", 1000, None), ("low", 1024, None), ("low", 1025, 1024), ("high", 3000, 1500), ("high", 9000, 4096)]


@pytest.mark.parametrize(("effort", "longest", "budget"), BUDGETS)
async def test_thinking_fits_into_the_longest_answer_or_is_left_out(
    effort: str, longest: int, budget: int | None
) -> None:
    async with serving() as (gateway, upstream):
        answer = await gateway.chat(reasoning_effort=effort, max_tokens=longest, temperature=1)

    assert answer.status == 200
    assert upstream.requests[0].json["max_tokens"] == longest
    assert upstream.requests[0].json.get("thinking", {}).get("budget_tokens") == budget


LONGEST: list[tuple[dict[str, Any], int]] = [({}, 8192), ({"max_tokens": 20}, 20), ({"max_completion_tokens": 30}, 30)]


@pytest.mark.parametrize(("fields", "longest"), LONGEST)
async def test_the_longest_answer_is_the_callers_or_a_modest_one_where_the_wire_wants_one(
    fields: dict[str, Any], longest: int
) -> None:
    async with serving() as (gateway, upstream):
        await gateway.chat(**fields)

    assert upstream.requests[0].json["max_tokens"] == longest


async def test_a_deployments_own_limit_is_said_where_the_wire_wants_a_longest_answer() -> None:
    async with serving(max_output_tokens=500) as (gateway, upstream):
        await gateway.chat()

    assert upstream.requests[0].json["max_tokens"] == 500


async def test_a_provider_without_a_preset_says_a_modest_longest_answer_as_well() -> None:
    async with WireUpstream(Anthropic()) as upstream:
        provider = {
            "kind": "litellm",
            "prefix": "anthropic",
            "base_url": upstream.base_url,
            "api_key": UPSTREAM_KEY,
        }
        async with running(json.dumps({"providers": {"mine": provider}})) as gateway:
            answer = await gateway.chat(model="mine/claude-sonnet-4-5", reasoning_effort="max")

    assert answer.status == 200
    assert upstream.requests[0].json["max_tokens"] == 8192
    assert upstream.requests[0].json["thinking"]["budget_tokens"] == 4096
