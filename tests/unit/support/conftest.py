"""A scripted upstream and the clients that look at it: the official SDK, and aiohttp for what an SDK would hide."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from openai import AsyncOpenAI

from tests.support.upstream import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def client(upstream: ScriptedUpstream) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=upstream.base_url, api_key="sk-any", max_retries=0, timeout=10) as made:
        yield made


@pytest.fixture
async def session(upstream: ScriptedUpstream) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        base_url=upstream.base_url + "/", connector=connector, auto_decompress=False
    ) as made:
        yield made
