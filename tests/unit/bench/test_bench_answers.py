from __future__ import annotations

import base64
import json

import pytest

from bench import canned
from bench.load import content, dechunk, find_fault
from bench.upstream import Answers, chunk, split

ANSWERS = Answers()
POST_CHAT = b"POST /v1/chat/completions HTTP/1.1"
POST_EMBEDDINGS = b"POST /v1/embeddings HTTP/1.1"


def answer(head: bytes, body: bytes = b"") -> bytes:
    found = ANSWERS.choose(head, body)
    return found if isinstance(found, bytes) else b"".join(found)


@pytest.mark.parametrize("request_", canned.REQUESTS, ids=lambda request: request.name)
def test_each_canned_request_gets_a_right_answer(request_: canned.Request) -> None:
    whole = split(request_.encode(9000))
    assert whole is not None
    head, body, rest = whole

    given = answer(head, body)

    found = content(given)
    assert rest == b""
    assert found is not None
    assert find_fault(request_, given, found) == ""


def test_usage_comes_last_before_done_when_it_is_asked_for() -> None:
    body = b'{"stream":true,"stream_options":{"include_usage":true}}'

    events = (content(answer(POST_CHAT, body)) or b"").split(b"\n\n")

    assert json.loads(events[-3].removeprefix(b"data: "))["usage"]["completion_tokens"] == canned.CHUNKS
    assert events[-2:] == [b"data: [DONE]", b""]


def test_a_trickled_stream_comes_in_as_many_pieces_as_events() -> None:
    pieces = ANSWERS.choose(POST_CHAT, b'{"model":"canned-trickle","stream":true}')

    assert isinstance(pieces, list)
    assert len(pieces) == canned.CHUNKS + 1


def test_a_single_answer_is_not_trickled() -> None:
    assert isinstance(ANSWERS.choose(POST_CHAT, b'{"model":"canned-trickle"}'), bytes)


@pytest.mark.parametrize(("form", "is_list"), [("float", True), ("base64", False)])
def test_an_embedding_has_the_form_that_was_asked_for(form: str, is_list: bool) -> None:
    body = json.dumps({"input": "x", "encoding_format": form}).encode()

    vector = json.loads(content(answer(POST_EMBEDDINGS, body)) or b"")["data"][0]["embedding"]

    assert isinstance(vector, list) is is_list
    assert (len(vector) if is_list else len(base64.b64decode(vector)) // 4) == canned.DIMENSIONS


def test_models_are_listed_and_other_routes_are_missing() -> None:
    assert b'"object":"list"' in answer(b"GET /v1/models HTTP/1.1")
    assert answer(b"GET /elsewhere HTTP/1.1").startswith(b"HTTP/1.1 404 ")


def test_a_request_is_whole_only_with_its_last_byte() -> None:
    encoded = canned.CHAT.encode(9000)

    assert split(encoded[:-1]) is None
    assert split(encoded[:20]) is None
    assert split(encoded + b"GET ") == (encoded.split(b"\r\n\r\n")[0], canned.CHAT.body, b"GET ")


def test_a_request_without_length_is_refused_when_it_has_a_body() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        split(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


def test_chunks_are_put_together() -> None:
    assert dechunk(chunk(b"ab") + chunk(b"c" * 300) + b"0\r\n\r\n") == b"ab" + b"c" * 300


@pytest.mark.parametrize(
    "body",
    [b"", b"2\r\nab", b"2\r\nab\r\n", b"2\r\nabc\r\n0\r\n\r\n", b"x\r\n", b"0\r\n\r\nmore", b"9\r\nab\r\n0\r\n\r\n"],
)
def test_chunks_that_do_not_end_properly_are_no_body(body: bytes) -> None:
    assert dechunk(body) is None


@pytest.mark.parametrize(
    ("request_", "head", "body"),
    [
        (canned.CHAT, b"HTTP/1.1 500 Oops", b'{"choices":[],"usage":{}}'),
        (canned.CHAT, b"HTTP/1.1 200 OK", b'{"choices":[]}'),
        (canned.STREAM, b"HTTP/1.1 200 OK", b'data: {"role":"assistant"}\n\ndata: [DONE]\n\n'),
        (canned.STREAM, b"HTTP/1.1 200 OK", b'data: {"role":"assistant"}\n\n' * 101),
        (canned.STREAM, b"HTTP/1.1 200 OK", b"data: {}\n\n" * 100 + b"data: [DONE]\n\n"),
    ],
    ids=["status", "no usage", "too few events", "no done", "no role"],
)
def test_a_wrong_answer_is_a_fault(request_: canned.Request, head: bytes, body: bytes) -> None:
    assert find_fault(request_, head + b"\r\n\r\n" + body, body).startswith(request_.name)
