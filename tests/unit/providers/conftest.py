"""A scripted upstream and the provider that speaks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.providers import OpenAIWire
from tests.support.upstream import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def wire(upstream: ScriptedUpstream) -> AsyncIterator[OpenAIWire]:
    provider = OpenAIWire("lab", upstream.base_url, api_key="sk-canary-0123456789")
    yield provider
    await provider.close()
