"""Rows F63 to F74, F77 and F78: requests that are wrong. None of them reaches an upstream, or costs a deployment its
name; each is answered with the envelope, and the gateway serves on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.app import Answer, make_config, running
from tests.support.drill import Drill, Kind, Seen, ask
from tests.support.upstream import ScriptedUpstream
from tests.support.verdicts import unwell

Note = Callable[[str, str], None]
OF_EVERY_NUMBER = ""  # the column of what does not depend on how many deployments there are
JSON = {"Content-Type": "application/json"}


def path_of(kind: Kind) -> str:
    return "/v1/embeddings" if kind == "embeddings" else "/v1/chat/completions"


def body_of(kind: Kind, **fields: Any) -> dict[str, Any]:
    asked = {"input": "hello"} if kind == "embeddings" else {"messages": [{"role": "user", "content": "Hi"}]}
    return {"model": "small", **asked, **({"stream": True} if kind == "stream" else {}), **fields}


def with_raw(kind: Kind, name: bytes, value: bytes) -> bytes:
    """Return a good body with one more field of these bytes."""
    return json.dumps(body_of(kind)).encode()[:-1] + b', "' + name + b'": ' + value + b"}"


def head_of(kind: Kind, *lines: str) -> bytes:
    every = [f"POST {path_of(kind)} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines]
    return "\r\n".join((*every, "", "")).encode()


def tell(it: Drill, answer: Answer) -> Seen:
    """Note for the matrix what the caller was told."""
    seen = Seen(it.kind, answer, answer.error if answer.status != 200 else None, "")
    it.note(OF_EVERY_NUMBER, seen.words)
    return seen


async def post(it: Drill, content: bytes, **headers: str) -> Seen:
    answer = await it.gateway.ask("POST", path_of(it.kind), data=content, headers={**JSON, **headers})
    return tell(it, answer)


async def is_refused(it: Drill, seen: Seen, status: int, code: str | None) -> bool:
    """Tell whether the caller alone was told, no upstream was asked or blamed, and the next request is answered."""
    assert it.broken.requests == []
    assert (seen.status, seen.code, seen.attempts) == (status, code, 0)
    assert seen.answer.headers["x-request-id"]
    assert (await ask(it.gateway, it.kind)).status == 200
    return await unwell(it) == {}


@pytest.mark.fault("F63", "a body larger than allowed, by its length")
async def test_f63_a_body_that_says_it_is_too_large_is_not_read(alone: Drill) -> None:
    seen = tell(alone, await alone.gateway.send_raw(head_of(alone.kind, "Content-Length: 41943040") + b"{"))

    assert await is_refused(alone, seen, 413, "request_too_large")


@pytest.mark.fault("F63", "a body larger than allowed, in chunks")
async def test_f63_a_body_that_grows_too_large_is_read_no_further(kind: Kind, note: Note) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b" " * 100_000

    async with (
        ScriptedUpstream() as upstream,
        running(make_config(upstream, server={"max_body_mb": 1})) as gateway,
    ):
        answer = await gateway.ask("POST", path_of(kind), data=pieces(), headers=JSON)

    note(OF_EVERY_NUMBER, Seen(kind, answer, answer.error, "").words)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert upstream.requests == []


LENGTHS: dict[str, tuple[str, ...]] = {
    "no number": ("Content-Length: ten",),
    "negative": ("Content-Length: -1",),
    "signed": ("Content-Length: +5",),
    "two": ("Content-Length: 5", "Content-Length: 6"),
    "a length and chunks": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "chunks that are none": ("Transfer-Encoding: chunked, identity",),
}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.fault("F64", "a length that is wrong, double, or given beside chunks")
async def test_f64_a_body_of_doubtful_length_ends_the_connection(alone: Drill, name: str) -> None:
    request = head_of(alone.kind, *LENGTHS[name]) + b"hello"
    reader, writer = await asyncio.open_connection("127.0.0.1", alone.gateway.port)
    writer.write(request)

    async with asyncio.timeout(1):
        until_the_end = await reader.read()
    seen = tell(alone, await alone.gateway.send_raw(request))

    assert until_the_end.count(b" 400 Bad Request\r\n") == 1  # what stands behind it is never taken for another request
    assert await is_refused(alone, seen, 400, "invalid_http")
    writer.close()


@pytest.mark.fault("F64", "no length")
async def test_f64_without_a_length_there_is_no_body(alone: Drill) -> None:
    seen = tell(alone, await alone.gateway.send_raw(head_of(alone.kind)))

    assert await is_refused(alone, seen, 400, "invalid_json")


NO_TEXT = {
    "invalid UTF-8": b'{"model": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a character": b'{"model": "\\ud800"}',
    "UTF-16": '{"model": "small"}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", NO_TEXT)
@pytest.mark.fault("F65", "a body that is no UTF-8, or has a byte order mark or half a character")
async def test_f65_what_is_no_text_is_no_json(alone: Drill, name: str) -> None:
    assert await is_refused(alone, await post(alone, NO_TEXT[name]), 400, "invalid_json")


@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
@pytest.mark.fault("F66", "nested 65 to 100,000 deep")
async def test_f66_what_is_nested_too_deep_is_refused(alone: Drill, depth: int) -> None:
    content = with_raw(alone.kind, b"deep", b"[" * depth + b"]" * depth)

    assert await is_refused(alone, await post(alone, content), 400, "invalid_json")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
@pytest.mark.fault("F67", "NaN, Infinity, 1e999")
async def test_f67_what_is_no_number_of_json_is_refused(alone: Drill, number: bytes) -> None:
    content = with_raw(alone.kind, b"temperature", number)

    assert await is_refused(alone, await post(alone, content), 400, "invalid_json")


@pytest.mark.fault("F68", "the same key twice")
async def test_f68_of_two_the_last_counts_and_the_upstream_sees_only_that(alone: Drill) -> None:
    content = with_raw(alone.kind, b"user", b'"first", "user": "last"')

    seen = await post(alone, content)

    assert seen.status == 200
    (request,) = alone.broken.requests
    assert request.json["user"] == "last"
    assert b"first" not in request.body


@pytest.mark.parametrize("number", [2**64, 2**70, 10**40])
@pytest.mark.fault("F69", "a whole number beyond 64 bits")
async def test_f69_numbers_that_no_integer_holds_are_refused(alone: Drill, number: int) -> None:
    name = "dimensions" if alone.kind == "embeddings" else "max_tokens"

    seen = await post(alone, with_raw(alone.kind, name.encode(), str(number).encode()))

    assert seen.error is not None
    assert seen.error["param"] == name
    assert await is_refused(alone, seen, 400, seen.code)


def wrong_of(kind: Kind) -> dict[str, Any]:
    """Return fields that are wrong, each with what its error names."""
    if kind == "embeddings":
        return {"input": [None, "", [], {}, [1.5], [""], 7], "dimensions": [0, "x"], "encoding_format": ["hex"]}
    return {"messages": [None, [], "Hi", ["Hi"], [{}], [{"role": "user"}]], "temperature": ["hot", 3], "n": [0, True]}


@pytest.mark.fault("F70", "a field that is missing, null, empty or of a wrong type")
async def test_f70_the_error_names_the_field(alone: Drill) -> None:
    for name, values in wrong_of(alone.kind).items():
        for value in values:
            seen = await post(alone, json.dumps(body_of(alone.kind, **{name: value})).encode())

            assert seen.error is not None
            assert (seen.status, seen.error["type"]) == (400, "invalid_request_error")
            assert seen.error["param"].startswith(name), (name, value)
    assert await is_refused(alone, seen, 400, seen.code)


@pytest.mark.parametrize("missing", ["model", "messages or input"])
@pytest.mark.fault("F70", "a field that is missing, null, empty or of a wrong type")
async def test_f70_a_missing_field_is_named(alone: Drill, missing: str) -> None:
    name = missing if missing == "model" else ("input" if alone.kind == "embeddings" else "messages")
    body = body_of(alone.kind)
    del body[name]

    seen = await post(alone, json.dumps(body).encode())

    assert seen.error is not None
    assert seen.error["param"] == name
    assert await is_refused(alone, seen, 400, seen.code)


@pytest.mark.fault("F71", "a field that OpenAI does not know")
async def test_f71_unknown_fields_are_passed_on_to_an_upstream_of_the_same_wire(alone: Drill) -> None:
    seen = await post(alone, json.dumps(body_of(alone.kind, brand_new={"deep": [1]})).encode())

    assert seen.status == 200
    (request,) = alone.broken.requests
    assert request.json["brand_new"] == {"deep": [1]}


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "extra_headers", "fallbacks", "mock_response"])
@pytest.mark.fault("F71", "a field that would steer the call, as api_base")
async def test_f71_names_that_steer_calls_are_refused(alone: Drill, name: str) -> None:
    seen = await post(alone, json.dumps(body_of(alone.kind, **{name: "http://evil.test"})).encode())

    assert await is_refused(alone, seen, 400, "unknown_parameter")


@pytest.mark.fault("F72", "a model that nobody configured")
async def test_f72_an_unknown_model_is_not_found_and_makes_no_label(alone: Drill) -> None:
    seen = await post(alone, json.dumps(body_of(alone.kind, model="smal")).encode())

    assert seen.error is not None
    assert seen.error["param"] == "model"
    figures = await alone.gateway.figures()
    assert figures[("gateway_requests_total", *sorted(("404", path_of(alone.kind), "other")))] == 1
    assert await is_refused(alone, seen, 404, "model_not_found")


KEYS: list[dict[str, Any]] = [
    {"name": "app", "key": "sk-app-0123456789"},
    {"name": "narrow", "key": "sk-narrow-0123456789", "models": ["large"]},
    {"name": "viewer", "key": "sk-viewer-0123456789", "role": "viewer"},
]
NO_KEYS = {
    "none": {},
    "empty": {"Authorization": "Bearer "},
    "wrong": {"Authorization": "Bearer sk-wrong"},
    "a part": {"Authorization": "Bearer sk-app-012345678"},
    "of another scheme": {"Authorization": "Basic sk-app-0123456789"},
}


async def knock(kind: Kind, note: Note, headers: dict[str, str]) -> Seen:
    """Ask a gateway that has keys; no upstream may be asked."""
    async with (
        ScriptedUpstream() as upstream,
        running(make_config(upstream, aliases=("small", "large"), keys=KEYS)) as gateway,
    ):
        answer = await gateway.ask("POST", path_of(kind), json=body_of(kind), headers=headers)
    assert upstream.requests == []
    seen = Seen(kind, answer, answer.error, "")
    note(OF_EVERY_NUMBER, seen.words)
    return seen


@pytest.mark.parametrize("name", NO_KEYS)
@pytest.mark.fault("F73", "no key, or a wrong one")
async def test_f73_whatever_is_no_key_is_told_in_one_way(kind: Kind, note: Note, name: str) -> None:
    seen = await knock(kind, note, NO_KEYS[name])

    assert (seen.status, seen.code) == (401, "invalid_api_key")
    assert seen.error is not None
    assert seen.error["type"] == "authentication_error"


@pytest.mark.parametrize("key", ["sk-narrow-0123456789", "sk-viewer-0123456789"])
@pytest.mark.fault("F74", "a key that may not use the model")
async def test_f74_a_key_without_the_model_is_told_so(kind: Kind, note: Note, key: str) -> None:
    seen = await knock(kind, note, {"Authorization": f"Bearer {key}"})

    assert seen.status == 403
    assert seen.error is not None
    assert seen.error["type"] == "permission_error"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.fault("F77", "a wrong method")
async def test_f77_a_wrong_method_is_told_with_the_right_one(alone: Drill, method: str) -> None:
    seen = tell(alone, await alone.gateway.ask(method, path_of(alone.kind)))

    assert seen.answer.headers["Allow"] == "POST"
    assert await is_refused(alone, seen, 405, "method_not_allowed")


@pytest.mark.fault("F77", "a wrong path")
async def test_f77_a_wrong_path_is_told_as_such(alone: Drill) -> None:
    seen = tell(alone, await alone.gateway.ask("POST", path_of(alone.kind) + "/", json=body_of(alone.kind)))

    assert await is_refused(alone, seen, 404, "unknown_url")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
@pytest.mark.fault("F77", "a wrong content type")
async def test_f77_what_browsers_may_send_unasked_is_not_accepted(alone: Drill, content_type: str) -> None:
    content = json.dumps(body_of(alone.kind)).encode()

    seen = await post(alone, content, **{"Content-Type": content_type})

    assert await is_refused(alone, seen, 415, "unsupported_media_type")


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next answer's status and its body as it was framed."""
    async with asyncio.timeout(1):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ")[1])
        if "chunked" in head:
            return status, await reader.readuntil(b"\r\n0\r\n\r\n")
        lengths = [line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Content-Length: ")]
        return status, await reader.readexactly(int(lengths[0]) if lengths else 0)


def request_of(kind: Kind, *lines: str, model: str = "small") -> bytes:
    content = json.dumps(body_of(kind, model=model)).encode()
    return head_of(kind, f"Content-Length: {len(content)}", *lines) + content


@pytest.mark.fault("F78", "Expect: 100-continue")
async def test_f78_a_caller_that_waits_to_be_told_is_told_to_go_on(alone: Drill) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", alone.gateway.port)
    head, _, content = request_of(alone.kind, "Expect: 100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")

    told, _ = await read_answer(reader)
    writer.write(content)
    answered, _ = await read_answer(reader)
    writer.close()

    assert (told, answered) == (100, 200)
    alone.note(OF_EVERY_NUMBER, "100, then the whole answer")


@pytest.mark.fault("F78", "Expect: something else")
async def test_f78_another_expectation_cannot_be_met(alone: Drill) -> None:
    seen = tell(alone, await alone.gateway.send_raw(request_of(alone.kind, "Expect: banana")))

    assert await is_refused(alone, seen, 417, "expectation_failed")


@pytest.mark.fault("F78", "several requests at once on one connection, the first wrong")
async def test_f78_requests_sent_together_are_answered_in_order(alone: Drill) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", alone.gateway.port)
    wrong, good = request_of(alone.kind, model="nobody"), request_of(alone.kind)
    writer.write(wrong + good + wrong + good)

    statuses = [(await read_answer(reader))[0] for _ in range(4)]
    writer.close()

    assert statuses == [404, 200, 404, 200]
    alone.note(OF_EVERY_NUMBER, "every answer in its order")


@pytest.mark.fault("F78", "a connection used again after an error")
async def test_f78_a_connection_serves_on_after_an_error(alone: Drill) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", alone.gateway.port)
    statuses = []

    for model in ("nobody", "small", "nobody", "small"):
        writer.write(request_of(alone.kind, model=model))
        statuses.append((await read_answer(reader))[0])
    writer.close()

    assert statuses == [404, 200, 404, 200]
    alone.note(OF_EVERY_NUMBER, "every answer on the same connection")
