"""Answers of a scripted llama.cpp server come out of the provider in the one form that callers read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.call import Endpoint, Usage
from gateway.errors import EndpointNotServed, GatewayError, InvalidRequest, UpstreamProtocolError, UpstreamUnavailable
from gateway.providers import LlamaCpp, LocalModel
from gateway.wire import DONE_EVENT, encode_event
from tests.support.exchanges import make_exchange
from tests.support.upstream import Behaviour, Body, ScriptedUpstream, Status

EVENTS = "text/event-stream"
RERANK = {"query": "cats", "documents": ["a dog", {"text": "a cat", "id": 7}], "return_documents": True}


async def ask(
    directory: Path, behaviour: Behaviour, endpoint: Endpoint, body: dict[str, Any]
) -> tuple[Any, Usage | None, Any]:
    """Return the answer, its usage, and what the model process was sent."""
    async with ScriptedUpstream(socket_path=directory / "s") as upstream:
        upstream.script(behaviour)
        provider = LlamaCpp("local", {"tiny": LocalModel(directory / "s", lambda: "")})
        try:
            async with await provider.send(make_exchange(endpoint=endpoint, body=body, model="tiny")) as reply:
                return orjson.loads(reply.body), reply.usage, upstream.requests[0].json
        finally:
            await provider.close()


def chunk(index: int, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    payload = {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "tiny", "choices": choices}
    return encode_event({**payload, **more})


def usage(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**counted, "prompt_tokens_details": {"cached_tokens": cached}}


TWO_CHOICES = (
    chunk(1, {"role": "assistant", "content": None}),
    chunk(1, {"reasoning_content": "hm"}),
    chunk(1, {"reasoning_content": "m"}),
    chunk(1, {"content": "S"}),
    chunk(0, {"content": "G"}),
    chunk(1, {"content": "i"}),
    chunk(1, {}, "length", usage=usage(9, 2, 8)),
    chunk(0, {"content": "o"}),
    chunk(0, {}, "stop", usage=usage(9, 3, 0)),
)


async def test_several_choices_are_asked_for_as_a_stream_and_told_whole(tmp_path: Path) -> None:
    body = {"messages": [], "n": 2}

    answer, counted, sent = await ask(
        tmp_path, Body(b"".join((*TWO_CHOICES, DONE_EVENT)), EVENTS), "chat/completions", body
    )

    assert sent == {**body, "model": "tiny", "stream": True, "stream_options": {"include_usage": True}}
    assert answer["object"] == "chat.completion"
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["Go", "Si"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]
    assert answer["choices"][1]["message"]["reasoning_content"] == "hmm"
    assert {**answer["usage"], "prompt_tokens_details": None} == {**usage(9, 5, 0), "prompt_tokens_details": None}
    assert counted is not None
    assert (counted.prompt_tokens, counted.completion_tokens) == (9, 5)


async def test_a_long_answer_of_several_choices_is_told_whole(tmp_path: Path) -> None:
    words = b"".join(chunk(index, {"content": "word "}) for _ in range(20_000) for index in (0, 1))
    ends = b"".join(chunk(index, {}, "length", usage=usage(9, 20_000, 0)) for index in (0, 1))

    answer, counted, _ = await ask(
        tmp_path, Body(words + ends + DONE_EVENT, EVENTS), "chat/completions", {"messages": [], "n": 2}
    )

    assert [len(choice["message"]["content"]) for choice in answer["choices"]] == [100_000, 100_000]
    assert counted is not None
    assert counted.completion_tokens == 40_000


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (TWO_CHOICES[:-3], UpstreamProtocolError),
        ((*TWO_CHOICES[:3], b"data: {oops\n\n", DONE_EVENT), UpstreamProtocolError),
        ((*TWO_CHOICES[:3], encode_event({"error": {"code": 500, "message": "x"}})), UpstreamUnavailable),
    ],
    ids=["cut", "no json", "error"],
)
async def test_a_stream_that_broke_is_no_plain_answer(
    tmp_path: Path, events: tuple[bytes, ...], kind: type[GatewayError]
) -> None:
    with pytest.raises(kind):
        await ask(tmp_path, Body(b"".join(events), EVENTS), "chat/completions", {"messages": [], "n": 2})


async def test_documents_are_ranked_by_a_model_that_does(tmp_path: Path) -> None:
    scores = [{"index": 0, "relevance_score": -4.5}, {"index": 1, "relevance_score": 3.25}]
    told = {"model": "tiny", "object": "list", "usage": {"prompt_tokens": 12, "total_tokens": 12}, "results": scores}

    answer, counted, sent = await ask(tmp_path, Body(json.dumps(told).encode()), "rerank", {**RERANK, "user": "me"})

    assert sent["documents"] == ["a dog", "a cat"]
    assert "user" not in sent
    assert [(each["index"], each["relevance_score"]) for each in answer["results"]] == [(1, 3.25), (0, -4.5)]
    assert answer["results"][0]["document"] == {"text": "a cat"}
    assert counted == Usage(12)


async def test_a_model_that_does_not_rank_is_the_callers_mistake(tmp_path: Path) -> None:
    message = "This server does not support reranking. Start it with `--reranking`"

    with pytest.raises(InvalidRequest) as caught:
        await ask(tmp_path, Status(501, message=message, kind="not_supported_error"), "rerank", RERANK)

    assert (caught.value.param, caught.value.code) == ("model", "unsupported_model")


async def test_an_engine_without_the_endpoint_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(EndpointNotServed):
        await ask(tmp_path, Status(404, message="Not Found", kind="not_found_error"), "rerank", RERANK)
