"""Local models: reached over their sockets, and when they are not, the caller is told why."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    LocalModelUnavailable,
    UpstreamModelMissing,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers import LlamaCpp, LocalModel
from tests.support.contract import assert_stream_obeys_contract, parse_sse
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience
from tests.support.upstream import Behaviour, Body, Chat, Cut, Hang, Reset, ScriptedUpstream, Status


def make_provider(socket: Path, trouble: str = "") -> LlamaCpp:
    return LlamaCpp("local", {"tiny": LocalModel(socket, lambda: trouble, is_embedding=False)})


async def test_a_model_is_asked_over_its_socket(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        provider = make_provider(tmp_path / "s")

        async with await provider.send(make_exchange(model="tiny")) as reply:
            body = reply.body
        await provider.close()

    assert b"chat.completion" in body
    assert upstream.requests[0].path == "/v1/chat/completions"


async def test_a_stream_passes_and_each_request_has_its_own_connection(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        provider = make_provider(tmp_path / "s")

        for _ in range(2):
            async with await provider.send(make_exchange(model="tiny", stream=True)) as reply:
                assert_stream_obeys_contract(parse_sse(b"".join([block async for block in reply])))
        await provider.close()

    assert upstream.connections.opened == 2


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [("it is being loaded.", "it is being loaded."), ("", "its process ended and is being restarted.")],
)
async def test_a_missing_socket_is_told_with_its_reason(tmp_path: Path, trouble: str, reason: str) -> None:
    provider = make_provider(tmp_path / "nobody", trouble)

    with pytest.raises(LocalModelUnavailable) as caught:
        await provider.send(make_exchange(model="tiny"))
    await provider.close()

    assert caught.value.message == f"The local model 'tiny' is not available: {reason}"
    assert caught.value.http_status == 503
    assert caught.value.retry_after == 1.0


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Reset(), LocalModelUnavailable),
        (Cut(Chat(), 0), LocalModelUnavailable),
        (Status(503, message="Loading model"), LocalModelUnavailable),
        (Status(500), UpstreamUnavailable),
        (
            Body(
                b'{"error":{"code":400,"type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}', status=400
            ),
            ContextLengthExceeded,
        ),
    ],
    ids=["crashed", "crashed in the answer", "loading", "failed", "too long"],
)
async def test_what_goes_wrong_in_a_model_process_has_its_class(
    tmp_path: Path, behaviour: Behaviour, kind: type[GatewayError]
) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        upstream.script(behaviour)
        provider = make_provider(tmp_path / "s")

        with pytest.raises(GatewayError) as caught:
            await provider.send(make_exchange(model="tiny"))
        await provider.close()

    assert type(caught.value) is kind
    assert len(upstream.requests) == 1


async def test_a_model_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "s") as upstream:
        upstream.script(Hang())
        provider = make_provider(tmp_path / "s")

        with pytest.raises(UpstreamTimeout):
            await provider.send(make_exchange(model="tiny", patience=make_patience(first_event=SHORT_SECONDS)))
        await provider.close()


async def test_a_model_that_is_not_configured_is_missing(tmp_path: Path) -> None:
    provider = make_provider(tmp_path / "s")

    with pytest.raises(UpstreamModelMissing):
        await provider.send(make_exchange(model="huge"))


@pytest.mark.parametrize(
    ("model", "trouble", "ready"), [("tiny", "", True), ("tiny", "no", False), ("huge", "", False)]
)
async def test_a_model_is_ready_when_it_has_no_trouble(tmp_path: Path, model: str, trouble: str, ready: bool) -> None:
    assert await make_provider(tmp_path / "s", trouble).is_ready(model) is ready
