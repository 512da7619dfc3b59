"""llama.cpp's own habits come out as the OpenAI wire."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import ContextLengthExceeded, InvalidRequest, UpstreamRejected, UpstreamUnavailable
from gateway.providers import Exchange
from gateway.providers.llamacpp_dialect import (
    LlamaCppScanner,
    check_dimensions,
    explain_failure,
    explain_tokens,
    refuse_unsupported,
    tidy_completion,
)
from gateway.routing import TimeoutSettings
from gateway.wire import DONE_EVENT, encode_event
from tests.support.contract import assert_stream_obeys_contract, parse_sse, read_chunks
from tests.support.exchanges import make_exchange


def exchange(endpoint: Any = "chat/completions", *, wants_usage: bool = False, **body: Any) -> Exchange:
    return Exchange(endpoint, body, "tiny", TimeoutSettings(), stream=True, wants_usage=wants_usage)


def chunk(index: int, delta: dict[str, Any], finish: str | None = None, created: int = 5, **more: Any) -> bytes:
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    payload = {"id": "c", "object": "chat.completion.chunk", "created": created, "model": "tiny", "choices": choices}
    return encode_event({**payload, **more})


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def usage_chunk(prompt: int, completion: int, created: int = 5) -> bytes:
    payload = {"id": "c", "object": "chat.completion.chunk", "created": created, "model": "tiny", "choices": []}
    return encode_event({**payload, "usage": usage(prompt, completion)})


def scan(asked: Exchange, *events: bytes) -> tuple[list[str], LlamaCppScanner]:
    scanner = LlamaCppScanner(asked)
    return parse_sse(b"".join(scanner.feed(event) for event in events) + scanner.end()), scanner


TWO_CHOICES = (
    chunk(1, {"role": "assistant", "content": None}),
    chunk(1, {"content": "S"}),
    chunk(0, {"role": "assistant", "content": None}),
    chunk(0, {"content": "G"}),
    chunk(1, {}, "length", created=6),
    usage_chunk(9, 2, created=6),
    chunk(0, {"content": "o"}, created=7),
    chunk(0, {}, "stop", created=7),
    usage_chunk(9, 3, created=7),
    DONE_EVENT,
)


@pytest.mark.parametrize("wants_usage", [False, True])
def test_two_choices_out_of_order_come_out_by_the_contract(wants_usage: bool) -> None:
    events, scanner = scan(exchange(n=2, wants_usage=wants_usage), *TWO_CHOICES)

    assert_stream_obeys_contract(events, n=2, include_usage=wants_usage)
    assert scanner.usage is not None
    assert (scanner.usage.prompt_tokens, scanner.usage.completion_tokens) == (9, 5)


def test_the_usage_of_all_choices_is_added_up_and_a_shared_prompt_counts_once() -> None:
    events, _ = scan(exchange(n=2, wants_usage=True), *TWO_CHOICES)

    assert read_chunks(events)[-1]["usage"] == usage(9, 5)


def test_prompts_of_their_own_are_added_up_too() -> None:
    def text(index: int, finish: str | None, **more: Any) -> bytes:
        return encode_event(
            {
                "object": "text_completion",
                "created": 1,
                "choices": [{"index": index, "text": "x", "finish_reason": finish}],
                **more,
            }
        )

    events, scanner = scan(
        exchange("completions", prompt=["a", "b"]),
        b"data: null\n\n",
        text(1, None),
        text(1, "length", usage=usage(3, 2)),
        text(0, "length", usage=usage(4, 1)),
        DONE_EVENT,
    )

    assert len(events) == 4
    assert all("usage" not in payload for payload in read_chunks(events))
    assert scanner.usage is not None
    assert (scanner.usage.prompt_tokens, scanner.usage.completion_tokens) == (7, 3)


def test_an_error_event_is_kept_back() -> None:
    events, scanner = scan(
        exchange(), chunk(0, {"content": "a"}), encode_event({"error": {"code": 500, "message": "x"}})
    )

    assert len(events) == 2
    assert scanner.error == {"code": 500, "message": "x"}


def test_an_event_that_is_no_json_breaks_the_stream() -> None:
    _, scanner = scan(exchange(), chunk(0, {"content": "a"}), b"data: {oops\n\n")

    assert scanner.broken


def test_a_stream_cut_after_its_finish_is_finished() -> None:
    _, scanner = scan(exchange(), chunk(0, {"content": "a"}), chunk(0, {}, "stop"))

    assert scanner.finished
    assert not scanner.done


@pytest.mark.parametrize(
    ("asked", "is_embedding", "param"),
    [
        (exchange("embeddings"), False, "model"),
        (exchange("chat/completions"), True, "model"),
        (exchange("completions"), True, "model"),
        (exchange("completions", echo=True), False, "echo"),
        (exchange("completions", suffix="x"), False, "suffix"),
        (exchange("completions", best_of=2), False, "best_of"),
    ],
)
def test_what_would_be_ignored_in_silence_is_refused(asked: Exchange, is_embedding: bool, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse_unsupported(asked, is_embedding=is_embedding)

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("asked", "is_embedding"),
    [
        (exchange("embeddings"), True),
        (exchange(), False),
        (exchange("completions", echo=False, suffix=None, best_of=1), False),
    ],
)
def test_what_the_model_can_do_passes(asked: Exchange, is_embedding: bool) -> None:
    refuse_unsupported(asked, is_embedding=is_embedding)


@pytest.mark.parametrize("vector", [[0.0] * 5, "A" * 28])
def test_vectors_of_the_size_asked_for_pass_and_others_are_refused(vector: object) -> None:
    reply = {"data": [{"embedding": vector}]}

    check_dimensions(5, reply)
    with pytest.raises(InvalidRequest, match="have 5"):
        check_dimensions(4, reply)


def test_logprobs_of_completions_get_their_legacy_form() -> None:
    tokens = [
        {
            "token": "ab",
            "logprob": -1.0,
            "top_logprobs": [{"token": "ab", "logprob": -1.0}, {"token": "x", "logprob": -2.0}],
        },
        {"token": "c", "logprob": -0.5, "top_logprobs": [{"token": "c", "logprob": -0.5}]},
    ]

    tidied = tidy_completion({"choices": [{"logprobs": {"content": tokens}}, {"logprobs": None}]})

    assert orjson.loads(orjson.dumps(tidied["choices"][0]["logprobs"])) == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-1.0, -0.5],
        "top_logprobs": [{"ab": -1.0, "x": -2.0}, {"c": -0.5}],
        "text_offset": [0, 2],
    }


def test_images_for_a_text_model_are_the_callers_mistake() -> None:
    with pytest.raises(InvalidRequest, match="image"):
        explain_failure(UpstreamUnavailable("status 500: image input is not supported - hint: ..."))
    explain_failure(UpstreamUnavailable("something else"))


def test_an_input_over_the_window_of_a_causal_embedder_is_called_by_its_name() -> None:
    with pytest.raises(ContextLengthExceeded):
        explain_failure(UpstreamUnavailable("status 500: input (70000 tokens) is too large to process."))


def test_foreign_token_ids_are_explained() -> None:
    with pytest.raises(InvalidRequest, match="check_embedding_ctx_length"):
        explain_tokens(exchange("embeddings"), UpstreamRejected("Prompt contains invalid tokens"))
    explain_tokens(exchange("embeddings"), UpstreamRejected("something else"))


def test_images_are_refused_by_models_of_text() -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse_unsupported(make_exchange(endpoint="images/generations", body={"prompt": "a"}), is_embedding=False)

    assert caught.value.code == "unsupported_model"
