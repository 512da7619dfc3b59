"""Rows F43, F44, F49, F50 and F52: contents of a good status that are none, senseless usage, wrong vectors, old HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.wire import split_inputs
from tests.support.drill import BROKEN_TEXT, Drill, Kind, Seen
from tests.support.embedding import expected, vectors_of
from tests.support.upstream import (
    DIMENSIONS,
    Answer,
    Behaviour,
    Body,
    Changed,
    Chat,
    Embeddings,
    Ending,
    Framed,
    Framing,
    Html,
    Raw,
    SeenRequest,
    Typed,
    add_one,
    cut_base64,
    drop_all,
    drop_index,
    drop_last,
    empty_all,
    encode_vector,
    put_infinity,
    put_nan,
    put_nan_in_base64,
    put_null,
    put_text,
    put_truth,
    put_word,
    repeat_index,
    resolve,
    reverse_order,
    shorten_last,
)
from tests.support.verdicts import is_answered_by_the_sound_one, unwell

EVENT_STREAM = "text/event-stream"
plain_kinds = pytest.mark.parametrize("kind", ["chat", "embeddings"])


def is_the_whole_answer(it: Drill, seen: Seen) -> bool:
    assert it.kind == "embeddings" or seen.text == BROKEN_TEXT
    return (seen.status, seen.by, seen.attempts, seen.error) == (200, "broken", 1, None)


MALFORMED = {
    "half an object": b'{"id": "chatcmpl-1", "choices": [',
    "an array": b"[1, 2]",
    "null": b"null",
    "two objects": b"{}{}",
    "NaN": b'{"choices": [NaN], "data": [NaN]}',
    "invalid UTF-8": b'{"choices": ["\xff\xfe"], "data": ["\xff"]}',
    "deep": b'{"choices":' + b"[" * 100_000,
    "nothing in it": b"{}",
}


@plain_kinds
@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.fault("F43", "200 with malformed JSON")
async def test_f43_alone_an_answer_that_is_no_json_is_an_error(alone: Drill, name: str) -> None:
    alone.broken.otherwise = Body(MALFORMED[name])

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (502, "upstream_bad_response", 1)


@plain_kinds
@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.fault("F43", "200 with malformed JSON")
async def test_f43_another_answers_instead(pair: Drill, name: str) -> None:
    pair.broken.otherwise = Body(MALFORMED[name])

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


CANARY = "canary-of-the-page"
NO_ANSWERS: dict[str, Behaviour] = {
    "a page": Html(content=f"<!doctype html><h1>{CANARY}</h1>"),
    "a page that says it is JSON": Body(f"<h1>{CANARY}</h1>".encode()),
    "text": Body(CANARY.encode(), "text/plain"),
    "nothing": Body(b""),
    "nothing, of no type": Body(b"", ""),
    "a page that says it is events": Body(f"<h1>{CANARY}</h1>".encode(), EVENT_STREAM),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
@pytest.mark.fault("F44", "200 with a page, text or nothing")
async def test_f44_alone_what_is_no_answer_is_an_error_and_never_shown(alone: Drill, name: str) -> None:
    alone.broken.otherwise = NO_ANSWERS[name]

    seen = await alone.ask()

    assert (seen.status, seen.attempts) == (502, 1)
    assert seen.code is not None
    assert seen.code.startswith("upstream_")
    assert CANARY.encode() not in seen.answer.body


@pytest.mark.parametrize("name", NO_ANSWERS)
@pytest.mark.fault("F44", "200 with a page, text or nothing")
async def test_f44_another_answers_instead(pair: Drill, name: str) -> None:
    pair.broken.otherwise = NO_ANSWERS[name]

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@plain_kinds
@pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/octet-stream", ""])
@pytest.mark.fault("F44", "a good answer of another content type")
async def test_f44_a_good_answer_under_a_wrong_name_is_passed(alone: Drill, content_type: str) -> None:
    alone.broken.otherwise = Typed(alone.broken.otherwise, content_type)

    seen = await alone.ask()

    assert is_the_whole_answer(alone, seen)
    assert seen.answer.headers["Content-Type"] == "application/json"


USAGES: dict[str, Any] = {
    "missing": None,
    "negative": {"prompt_tokens": -9, "completion_tokens": -12, "total_tokens": -21},
    "huge": {"prompt_tokens": 10**30, "completion_tokens": 2**63, "total_tokens": 10**30},
    "words": {"prompt_tokens": "nine", "completion_tokens": "twelve"},
    "fractions": {"prompt_tokens": 9.5, "completion_tokens": 1e300},
    "truths": {"prompt_tokens": True, "completion_tokens": False},
    "nothing in it": {},
    "nulls": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    "an array": [9, 12],
    "a word": "many",
    "odd details": {"prompt_tokens": 9, "completion_tokens": 12, "prompt_tokens_details": "odd"},
}


def with_usage(kind: Kind, usage: Any) -> Behaviour:
    return Embeddings(usage=usage) if kind == "embeddings" else Chat(BROKEN_TEXT, usage=usage)


@pytest.mark.parametrize("name", USAGES)
@pytest.mark.fault("F49", "usage that is missing, negative, huge or of a wrong type")
async def test_f49_the_answer_is_passed_and_the_figures_stay_sane(alone: Drill, name: str) -> None:
    alone.broken.otherwise = with_usage(alone.kind, USAGES[name])

    seen = await alone.ask()

    assert is_the_whole_answer(alone, seen)
    figures = await alone.gateway.figures()
    counted = sum(value for key, value in figures.items() if key[0] == "gateway_tokens_total")
    told = 9 if alone.kind == "embeddings" else 21  # a vector completes nothing
    assert counted == (told if name == "odd details" else 0)
    unread = figures.get(("gateway_usage_invalid_total", "up0/model"), 0)
    assert unread == (name not in ("missing", "odd details"))
    assert figures[("gateway_attempts_total", "ok", "up0/model")] == 1
    assert await unwell(alone) == {}


vectors = pytest.mark.parametrize("kind", ["embeddings"])
THREE = ["a", "b", "c"]
BASE64 = {"encoding_format": "base64"}
# What the upstream does to its vectors, and the fields of the request.
WRONG_VECTORS: dict[str, tuple[Embeddings, dict[str, Any]]] = {
    "one too few": (Embeddings(spoil=drop_last), {"input": THREE}),
    "one too many": (Embeddings(spoil=add_one), {"input": THREE}),
    "one too many for a text": (Embeddings(spoil=add_one), {}),
    "none": (Embeddings(spoil=drop_all), {"input": THREE}),
    "one too few for token ids": (Embeddings(spoil=drop_last), {"input": [[1, 2], [3]]}),
    "one index for all": (Embeddings(spoil=repeat_index), {"input": THREE}),
    "lengths that differ": (Embeddings(spoil=shorten_last), {"input": THREE}),
    "another length than was asked for": (
        Embeddings(spoil=lambda items: [{**item, "embedding": [0.5] * DIMENSIONS} for item in items]),
        {"dimensions": 4},
    ),
    "no numbers": (Embeddings(spoil=empty_all), {"input": THREE}),
    "a text among the numbers": (Embeddings(spoil=put_text), {"input": THREE}),
    "a truth among the numbers": (Embeddings(spoil=put_truth), {"input": THREE}),
    "NaN": (Embeddings(spoil=put_nan), {"input": THREE}),
    "infinity": (Embeddings(spoil=put_infinity), {"input": THREE}),
    "null": (Embeddings(spoil=put_null), {"input": THREE}),
    "a sentence": (Embeddings(spoil=put_word), {"input": THREE}),
    "base64 that is cut": (Embeddings(spoil=cut_base64), {"input": THREE, **BASE64}),
    "base64 of NaN": (Embeddings(spoil=put_nan_in_base64), {"input": THREE, **BASE64}),
    "base64 of lengths that differ": (
        Embeddings(spoil=lambda items: [*items[:-1], {**items[-1], "embedding": encode_vector([0.5])}]),
        {"input": THREE, **BASE64},
    ),
    "no objects": (Embeddings(spoil=lambda items: [item["embedding"] for item in items]), {"input": THREE}),
}


@vectors
@pytest.mark.parametrize("name", WRONG_VECTORS)
@pytest.mark.fault("F50", "vectors that are missing, of wrong lengths or no numbers")
async def test_f50_alone_wrong_vectors_are_an_error(alone: Drill, name: str) -> None:
    alone.broken.otherwise, fields = WRONG_VECTORS[name]

    seen = await alone.ask(**fields)

    assert (seen.status, seen.code, seen.attempts) == (502, "upstream_bad_response", 1)


@vectors
@pytest.mark.parametrize("name", WRONG_VECTORS)
@pytest.mark.fault("F50", "vectors that are missing, of wrong lengths or no numbers")
async def test_f50_another_gives_the_right_vectors(pair: Drill, name: str) -> None:
    pair.broken.otherwise, fields = WRONG_VECTORS[name]

    seen = await pair.ask(**fields)

    assert is_answered_by_the_sound_one(pair, seen)


@vectors
@pytest.mark.fault("F50", "vectors in another order, their indices right")
async def test_f50_vectors_are_put_in_the_order_of_their_inputs(alone: Drill) -> None:
    alone.broken.otherwise = Embeddings(spoil=reverse_order)

    seen = await alone.ask(input=THREE)

    assert (seen.status, seen.attempts) == (200, 1)
    assert vectors_of(seen.answer) == expected(*THREE)
    assert seen.answer.json["usage"]["prompt_tokens"] == 3


# One text, a list of them, token ids, a list of those.
INPUTS: list[Any] = ["a", ["a"], THREE, [1, 2, 3], [[1, 2], [3]]]


@vectors
@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("fields", [{}, BASE64, {"dimensions": 3}, {"dimensions": 3, **BASE64}])
@pytest.mark.fault("F50", "vectors that are right, in each form")
async def test_f50_right_vectors_of_every_form_pass_to_the_bit(
    alone: Drill, given: Any, fields: dict[str, Any]
) -> None:
    seen = await alone.ask(input=given, **fields)

    is_coded = [isinstance(item["embedding"], str) for item in seen.answer.json["data"]]
    assert is_coded == ["encoding_format" in fields] * len(is_coded)
    assert vectors_of(seen.answer) == expected(*split_inputs(given), size=fields.get("dimensions", DIMENSIONS))


@vectors
@pytest.mark.parametrize(
    "answer",
    [Embeddings(spoil=drop_index), Embeddings(force="base64"), Embeddings(force="float"), Embeddings(usage=None)],
    ids=["no indices", "base64 unasked", "numbers for base64", "no usage"],
)
@pytest.mark.parametrize("fields", [{}, BASE64])
@pytest.mark.fault("F50", "vectors that are right, in each form")
async def test_f50_what_every_client_can_read_passes(alone: Drill, answer: Embeddings, fields: dict[str, str]) -> None:
    alone.broken.otherwise = answer

    seen = await alone.ask(input=THREE, **fields)

    assert is_the_whole_answer(alone, seen)


def written(behaviour: Behaviour, head: bytes, tail: bytes = b"", *, chunked: bool = False) -> Callable[..., Answer]:
    """Return the body of `behaviour` below another head, byte for byte, and then the end of the connection."""

    def answer(request: SeenRequest) -> Answer:
        whole = resolve(behaviour, request)
        body = b"".join(part for part in whole.parts if isinstance(part, bytes))
        kind = f"Content-Type: {whole.header('Content-Type')}\r\n".encode()
        content = b"%x\r\n%b\r\n0\r\n" % (len(body), body) if chunked else body
        return Raw((head + kind + b"\r\n" + content + tail, Ending.CLOSE)).answer(request)

    return answer


@pytest.mark.fault("F52", "100 Continue before the answer")
async def test_f52_a_go_ahead_before_the_answer_does_no_harm(alone: Drill) -> None:
    go_ahead = b"HTTP/1.1 100 Continue\r\n\r\n"
    alone.broken.otherwise = Changed(
        alone.broken.otherwise, lambda answer: replace(answer, before_head=(go_ahead, go_ahead))
    )

    seen = await alone.ask()

    assert is_the_whole_answer(alone, seen)


@pytest.mark.fault("F52", "trailers behind the chunks")
async def test_f52_trailers_are_read_and_forgotten(alone: Drill) -> None:
    alone.broken.otherwise = written(
        alone.broken.otherwise,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-checksum\r\n",
        b"x-checksum: 7\r\n\r\n",
        chunked=True,
    )

    seen = await alone.ask()

    assert is_the_whole_answer(alone, seen)
    assert "x-checksum" not in seen.answer.headers


@pytest.mark.fault("F52", "an upstream of HTTP/1.0")
async def test_f52_http_1_0_is_spoken(alone: Drill) -> None:
    alone.broken.otherwise = written(alone.broken.otherwise, b"HTTP/1.0 200 OK\r\n")

    seen = await alone.ask()

    assert is_the_whole_answer(alone, seen)


@pytest.mark.fault("F52", "a body that ends with its connection")
async def test_f52_the_end_of_the_connection_may_be_the_end_of_the_body(alone: Drill) -> None:
    alone.broken.otherwise = Framed(alone.broken.otherwise, Framing.CLOSE)

    first, second = await alone.ask(), await alone.ask()

    assert {seen.status for seen in (first, second)} == {200}
    assert alone.broken.connections.opened == 2
