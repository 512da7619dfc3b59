"""The gateway in front of one scripted upstream, without keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.app import RunningGateway, make_config, running
from tests.support.upstream import ScriptedUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as running_upstream:
        yield running_upstream


@pytest.fixture
async def gateway(upstream: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    """Serve `small`, `embedding` and `vendor/with-slash:7b`."""
    aliases = ("small", "embedding", "vendor/with-slash:7b")
    async with running(make_config(upstream, aliases=aliases)) as running_gateway:
        yield running_gateway
