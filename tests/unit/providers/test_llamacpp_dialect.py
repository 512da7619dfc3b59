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


def text(index: int, said: str, finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": index, "text": said, "logprobs": None, "finish_reason": finish}]
    return encode_event({"id": "c", "object": "text_completion", "created": 1, "choices": choices, **more})


def test_each_choice_begins_with_its_echoed_prompt() -> None:
    events, scanner = scan(
        exchange("completions", prompt=["a", "b"], gateway_echo=True, n=2),
        b"data: null\n\n",
        text(2, "x", "length", usage=usage(4, 1)),
        text(0, "x", "length", usage=usage(3, 1)),
        text(1, "x", "length", usage=usage(3, 1)),
        text(3, "x", "length", usage=usage(4, 1)),
        DONE_EVENT,
    )

    told = [(chunk["choices"][0]["index"], chunk["choices"][0]["text"]) for chunk in read_chunks(events)]
    assert told == [(0, "a"), (1, "a"), (2, "b"), (3, "b"), (2, "x"), (0, "x"), (1, "x"), (3, "x")]
    assert scanner.finished
    assert scanner.usage is not None
    assert (scanner.usage.prompt_tokens, scanner.usage.completion_tokens) == (7, 4)


def gather(asked: Exchange, *events: bytes) -> list[Any]:
    asked.stream = False
    return read_chunks(scan(asked, *events)[0])


def test_the_texts_of_a_plain_answer_come_out_together_with_its_usage() -> None:
    chunks = gather(
        exchange("completions", prompt="p", n=2),
        text(1, "a"),
        text(0, "b"),
        text(1, "c"),
        text(1, "", "stop", usage=usage(3, 2)),
        text(0, "d"),
        text(0, "", "length", usage=usage(3, 2)),
        DONE_EVENT,
    )

    said = [(choice["index"], choice["text"]) for chunk in chunks for choice in chunk["choices"]]
    assert said == [(1, "ac"), (0, "b"), (1, ""), (0, "d"), (0, "")]
    assert chunks[-1]["usage"] == usage(3, 4)


def test_of_a_plain_chat_only_bare_texts_come_out_together() -> None:
    chunks = gather(
        exchange(n=2),
        chunk(0, {"role": "assistant", "content": None}),
        chunk(0, {"reasoning_content": "hm"}),
        chunk(0, {"content": "a"}),
        chunk(0, {"content": "b"}),
        chunk(0, {"tool_calls": [{"index": 0}]}),
        chunk(1, {"content": "c"}),
        chunk(0, {}, "tool_calls"),
        chunk(1, {}, "stop"),
        DONE_EVENT,
    )

    told = [(choice["index"], choice["delta"]) for chunk in chunks[2:] for choice in chunk["choices"]]
    assert told == [
        (0, {"reasoning_content": "hm"}),
        (0, {"content": "ab"}),
        (0, {"tool_calls": [{"index": 0}]}),
        (1, {"content": "c"}),
        (0, {}),
        (1, {}),
    ]


def test_a_plain_answer_keeps_its_logprobs_as_they_come() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]}

    chunks = gather(
        exchange(n=2),
        encode_event({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": logprobs}]}),
        DONE_EVENT,
    )

    assert chunks[-1]["choices"][0]["logprobs"] == logprobs


def test_a_plain_answer_that_is_cut_is_not_whole() -> None:
    assert gather(exchange("completions", prompt="p", n=2), text(0, "a"), text(1, "b")) == []


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
        (exchange("completions", prompt=[1, 2], echo=True), False, "echo"),
        (exchange("completions", prompt=["a", [1]], echo=True), False, "echo"),
        (exchange("completions", prompt="a", echo=True, logprobs=0), False, "logprobs"),
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
        (exchange("completions", prompt=[1], echo=False, suffix=None, best_of=1), False),
        (exchange("completions", prompt="a", echo=True), False),
        (exchange("completions", prompt=["a", "b"], echo=True, suffix="x"), False),
        (exchange("rerank", query="a", documents=["b"]), False),
        (exchange("rerank", query="a", documents=["b"]), True),
    ],
)
def test_what_the_model_can_do_passes(asked: Exchange, is_embedding: bool) -> None:
    refuse_unsupported(asked, is_embedding=is_embedding)


def test_vectors_of_the_size_asked_for_pass_and_others_are_refused() -> None:
    vectors = [bytes(5 * 4)]

    check_dimensions(5, vectors)
    with pytest.raises(InvalidRequest, match="have 5"):
        check_dimensions(4, vectors)


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


def rated(*tokens: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -1.0, "top_logprobs": []} for token in tokens]}


def text_rated(index: int, *tokens: str) -> bytes:
    choices = [{"index": index, "text": "".join(tokens), "logprobs": rated(*tokens), "finish_reason": None}]
    return encode_event({"id": "c", "object": "text_completion", "created": 1, "choices": choices})


def test_logprobs_of_a_chat_are_streamed_as_they_are() -> None:
    told = encode_event({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": rated("a")}]})

    events, _ = scan(exchange(), told, DONE_EVENT)

    assert read_chunks(events)[-1]["choices"][0]["logprobs"] == rated("a")


@pytest.mark.parametrize("stream", [True, False])
def test_the_offset_of_a_token_is_its_place_in_all_of_its_text(stream: bool) -> None:
    asked = exchange("completions", prompt=["abc", "d"])
    asked.stream = stream
    events = (text_rated(0, "x", "yz"), text_rated(1, "u"), text_rated(0, "v"), text_rated(1, "w"))

    told, _ = scan(asked, *events, text(0, "", "stop"), text(1, "", "stop"), DONE_EVENT)

    offsets: dict[int, list[int]] = {0: [], 1: []}
    for choice in [one for chunk in read_chunks(told) for one in chunk["choices"] if one["logprobs"]]:
        offsets[choice["index"]] += choice["logprobs"]["text_offset"]
    assert offsets == {0: [0, 1, 3], 1: [0, 1]}


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


@pytest.mark.parametrize(
    ("message", "body", "param"),
    [
        ("Field 'n': Value must be between 1 <= value <= 4, but got 9", {}, "n"),
        ("Failed to initialize samplers: failed to parse grammar", {"grammar": "x"}, "grammar"),
        ("failed to parse grammar", {"response_format": {"type": "json_object"}}, "response_format"),
        ("JSON schema error at #: unrecognized type x", {"json_schema": {"type": "x"}}, "json_schema"),
        ("JSON schema error at #: unrecognized type x", {"tools": [{}]}, "tools"),
        ("JSON schema error", {}, None),
        ("something else", {"grammar": "x"}, None),
    ],
)
def test_a_refused_field_is_named_where_the_sentence_tells_it(message: str, body: dict[str, Any], param: str) -> None:
    error = UpstreamRejected(message)

    explain_tokens(exchange(**body), error)

    assert error.param == param


@pytest.mark.parametrize("word", ["reranking", "embeddings", "completions"])
def test_what_a_model_cannot_serve_is_the_callers_mistake(word: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        explain_failure(UpstreamUnavailable(f"status 501: This server does not support {word}. Start it with `--x`"))

    assert (caught.value.param, caught.value.code) == ("model", "unsupported_model")


def test_images_are_refused_by_models_of_text() -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse_unsupported(make_exchange(endpoint="images/generations", body={"prompt": "a"}), is_embedding=False)

    assert caught.value.code == "unsupported_model"
