"""Vectors of a scripted model process: asked for as bytes, and of no size but the model's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InvalidRequest, UpstreamRejected, UpstreamWrongSize
from gateway.providers import Exchange, LlamaCpp, LocalModel
from tests.support.exchanges import make_exchange, numbers_of
from tests.support.upstream import ScriptedUpstream, Status, make_vector


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as running:
        yield running


@pytest.fixture
async def local(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[LlamaCpp]:
    provider = LlamaCpp("local", {"tiny": LocalModel(tmp_path / "s", lambda: "", is_embedding=True)})
    yield provider
    await provider.close()


def asking(**body: Any) -> Exchange:
    return make_exchange(endpoint="embeddings", model="tiny", body={"model": "e", "input": "a", **body})


@pytest.mark.parametrize("wanted", [{}, {"encoding_format": "float"}])
async def test_a_model_process_is_asked_for_base64(
    local: LlamaCpp, upstream: ScriptedUpstream, wanted: dict[str, str]
) -> None:
    reply = await local.send(asking(**wanted))

    assert numbers_of(reply) == [make_vector("a")]
    assert upstream.requests[0].json == {"model": "tiny", "input": "a", "encoding_format": "base64"}


async def test_what_it_refuses_is_not_asked_for_again(local: LlamaCpp, upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, message="The input is no good."))

    with pytest.raises(UpstreamRejected):
        await local.send(asking())

    assert len(upstream.requests) == 1


async def test_the_models_own_size_may_be_asked_for_and_no_other(local: LlamaCpp) -> None:
    reply = await local.send(asking(dimensions=8))

    assert numbers_of(reply) == [make_vector("a")]
    with pytest.raises(InvalidRequest, match="have 8") as caught:
        await local.send(asking(dimensions=4))
    assert caught.value.param == "dimensions"


async def test_another_size_than_is_expected_is_the_models_failure(local: LlamaCpp) -> None:
    exchange = asking()
    exchange.dimensions = 4

    with pytest.raises(UpstreamWrongSize):
        await local.send(exchange)
