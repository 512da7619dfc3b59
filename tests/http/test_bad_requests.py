"""Whatever is wrong with a request, the answer is OpenAI's envelope, the upstream is not asked, and the server lives."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from gateway.http import ServerSettings
from tests.support.app import CHAT, RunningGateway, make_config, running
from tests.support.upstream import ScriptedUpstream

JSON = {"Content-Type": "application/json"}
POSTED = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


async def post_bytes(gateway: RunningGateway, content: bytes, path: str = POSTED[0], **headers: str) -> Any:
    return await gateway.ask("POST", path, data=content, headers={**JSON, **headers})


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b"  \n",
    "no JSON": b"hello",
    "half an object": b'{"model": "small", "messages": [',
    "an array": b"[1, 2]",
    "a text": b'"text"',
    "null": b"null",
    "two objects": b"{}{}",
    "NaN": b'{"model": "small", "temperature": NaN}',
    "infinity": b'{"model": "small", "temperature": -Infinity}',
    "1e999": b'{"model": "small", "temperature": 1e999}',
    "invalid UTF-8": b'{"model": "\xff\xfe"}',
    "a lone surrogate": b'{"model": "\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"model": "small"}'.encode("utf-16"),
    "a null byte": b'{"model": "a\0"}',
    "a comment": b'{"model": /* no */ "small"}',
    "depth 100000": b'{"model":"small","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth 65": b'{"model":"small","messages":' + b"[" * 64 + b"]" * 64 + b"}",
    "depth 100000 never closed": b"[" * 100_000,
}


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_plain_json_object_is_invalid_json(
    gateway: RunningGateway, upstream: ScriptedUpstream, name: str, path: str
) -> None:
    answer = await post_bytes(gateway, BODIES[name], path)

    assert answer.status == 400
    assert answer.error["code"] == "invalid_json"
    assert answer.error["type"] == "invalid_request_error"
    assert upstream.requests == []
    assert (await gateway.chat()).status == 200


async def test_a_body_as_deep_as_allowed_passes(gateway: RunningGateway) -> None:
    content = b'{"model":"small","messages":[{"role":"user","content":"x"}],"deep":' + b"[" * 63 + b"]" * 63 + b"}"

    assert (await post_bytes(gateway, content)).status == 200


FIELDS: list[tuple[dict[str, Any], str | None, str]] = [
    # fields over a good request → param, a piece of the message
    ({"model": None}, "model", "expected a string, but got null instead"),
    ({"model": 7}, "model", "expected a string, but got an integer instead"),
    ({"messages": None}, "messages", "expected an array, but got null instead"),
    ({"messages": "Hi"}, "messages", "expected an array, but got a string instead"),
    ({"messages": []}, "messages", "empty array"),
    ({"messages": ["Hi"]}, "messages[0]", "expected an object"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role", "Missing required parameter"),
    ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages[0].role", "Supported values are"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "Missing required parameter"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a string or an array of content parts"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type", "Missing required parameter"),
    ({"messages": [{"role": "tool", "content": "4"}]}, "messages[0].tool_call_id", "Missing required parameter"),
    ({"temperature": "hot"}, "temperature", "expected a decimal, but got a string instead"),
    ({"temperature": 3}, "temperature", "above maximum"),
    ({"temperature": True}, "temperature", "expected a decimal, but got a boolean instead"),
    ({"max_tokens": 0}, "max_tokens", "below minimum"),
    ({"max_tokens": 1.5}, "max_tokens", "expected an integer"),
    ({"max_tokens": 2**70}, "max_tokens", "expected an integer"),
    ({"n": 0}, "n", "below minimum"),
    ({"stream": "yes"}, "stream", "expected a boolean, but got a string instead"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "expected a boolean"),
    ({"stop": {"a": 1}}, "stop", "a string or an array of strings"),
    ({"tools": {}}, "tools", "expected an array"),
    ({"tools": [{}]}, "tools[0].type", "Missing required parameter"),
    ({"tool_choice": 1}, "tool_choice", "a string or an object"),
    ({"response_format": "json"}, "response_format", "expected an object"),
    ({"logit_bias": {"1": "a"}}, "logit_bias.1", "expected a decimal"),
    ({"top_logprobs": 21}, "top_logprobs", "above maximum"),
]


@pytest.mark.parametrize(("fields", "param", "words"), FIELDS)
async def test_a_mistake_in_a_field_is_named_in_openais_words(
    gateway: RunningGateway, upstream: ScriptedUpstream, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = await gateway.chat(**fields)

    assert answer.status == 400
    assert answer.error["param"] == param
    assert words in answer.error["message"]
    assert upstream.requests == []


@pytest.mark.parametrize("missing", ["model", "messages"])
async def test_a_missing_field_is_named(gateway: RunningGateway, missing: str) -> None:
    body = {name: value for name, value in CHAT.items() if name != missing}

    answer = await gateway.post("chat/completions", body)

    assert answer.error["param"] == missing
    assert answer.error["message"] == f"Missing required parameter: '{missing}'."


async def test_an_unknown_model_is_not_found(gateway: RunningGateway) -> None:
    answer = await gateway.chat(model="smal")

    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")
    assert "Did you mean 'small'?" in answer.error["message"]


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "\xff/x",
        "application/j\xffson",
    ],
)
async def test_what_a_browser_may_send_unasked_is_not_accepted(
    gateway: RunningGateway, path: str, content_type: str
) -> None:
    content = json.dumps(CHAT).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    head += f"Content-Type: {content_type}\r\n" if content_type else ""

    answer = await gateway.send_raw(head.encode("latin-1") + b"\r\n" + content)

    assert answer.status == 415
    assert answer.error["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"]
)
async def test_json_may_have_parameters(gateway: RunningGateway, content_type: str) -> None:
    answer = await gateway.ask(
        "POST", POSTED[0], data=json.dumps(CHAT).encode(), headers={"Content-Type": content_type}
    )

    assert answer.status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x"])
async def test_a_compressed_body_is_not_accepted(gateway: RunningGateway, encoding: str) -> None:
    content = json.dumps(CHAT).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Encoding: {encoding}\r\nContent-Length: {len(content)}\r\n\r\n"

    answer = await gateway.send_raw(head.encode() + content)

    assert answer.status in (400, 415)
    assert answer.error


async def test_a_body_of_forty_megabytes_is_refused_without_reading_it(gateway: RunningGateway) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    answer = await gateway.send_raw(head + b"Content-Length: 41943040\r\n\r\n{")

    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"
    assert answer.error["message"] == "The request body is larger than 32 MiB."


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
@pytest.mark.parametrize("size", [1024 * 1024, 1024 * 1024 + 1])
async def test_the_largest_body_passes_and_one_byte_more_does_not(
    upstream: ScriptedUpstream, size: int, chunked: bool
) -> None:
    frame = len(json.dumps({**CHAT, "pad": ""}))
    content = json.dumps({**CHAT, "pad": "x" * (size - frame)}).encode()

    async def pieces() -> Any:
        for start in range(0, size, 100_000):
            yield content[start : start + 100_000]

    async with running(make_config(upstream, server={"max_body_mb": 1})) as gateway:
        answer = await gateway.ask(
            "POST", POSTED[0], data=pieces(), headers=JSON if chunked else {**JSON, "Content-Length": str(size)}
        )

    assert answer.status == (200 if size <= 1024 * 1024 else 413)


def test_the_largest_body_is_32_mib_unless_configured() -> None:
    assert ServerSettings().max_body_mb == 32


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/nothing", "/v1/chat", "/v1/chat/completions/", "//v1/models"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_is_told_as_such(gateway: RunningGateway, method: str, path: str) -> None:
    answer = await gateway.send_raw(
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    )

    assert answer.status == 404
    assert answer.error["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/completions", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("HEAD", "/v1/models", "GET"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/v1/models/small", "GET"),
        ("POST", "/metrics", "GET"),
        ("POST", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
    ],
)
async def test_a_wrong_method_is_told_with_the_allowed_ones(
    gateway: RunningGateway, method: str, path: str, allowed: str
) -> None:
    answer = await gateway.ask(method, path)

    assert answer.status == 405
    assert answer.headers["Allow"] == allowed
    assert answer.headers["x-request-id"]
    if method != "HEAD":
        assert answer.error["code"] == "method_not_allowed"


RAW: dict[str, tuple[bytes, int]] = {
    "raw bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "raw bytes in a model": (b"GET /v1/models/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "encoded bytes in a model": (b"GET /v1/models/%FF%FE%ED%A0%80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "half an escape": (b"GET /v1/models/%F HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "a null in the path": (b"GET /v1/models/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "a path climbing up": (b"GET /v1/../metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "an endless path": (b"GET /v1/models/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "an endless header": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 400),
    "no HTTP": (b"HELLO\r\n\r\n", 400),
    "a bad version": (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
    "a bad length": (b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: ten\r\n\r\n", 400),
    "a negative length": (b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
    "length and chunks": (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "a bad chunk": (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n", 400),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "no host in HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", 421),
    "an unknown method": (b"BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "another's host": (b"GET /healthz HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421),
    "an absolute target": (b"GET http://evil.test/healthz HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421),
}


@pytest.mark.parametrize("name", RAW)
async def test_even_broken_http_is_answered_with_the_envelope(gateway: RunningGateway, name: str) -> None:
    request, status = RAW[name]

    answer = await gateway.send_raw(request)

    assert answer.status == status
    assert answer.error["message"]
    assert "\n" not in answer.error["message"]
    assert (await gateway.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/v1/chat/completions", "/nothing"])
@pytest.mark.parametrize("host", ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "localhost@evil.test"])
async def test_another_hosts_name_is_refused_on_every_path(gateway: RunningGateway, path: str, host: str) -> None:
    answer = await gateway.ask("GET", path, headers={"Host": host})

    assert answer.status == 421
    assert answer.error["code"] == "unknown_host"


async def test_a_configured_host_name_is_accepted(upstream: ScriptedUpstream) -> None:
    async with running(make_config(upstream, server={"allowed_hosts": ["models.lan"]})) as gateway:
        named = await gateway.ask("GET", "/healthz", headers={"Host": "models.lan:8080"})
        other = await gateway.ask("GET", "/healthz", headers={"Host": "evil.test"})

    assert (named.status, other.status) == (200, 421)


async def test_a_connection_serves_on_after_an_error(gateway: RunningGateway) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        statuses = []
        for model in ("nothing", "small"):
            body = {**CHAT, "model": model}
            async with session.post(gateway.base_url + "/chat/completions", json=body) as response:
                statuses.append(response.status)

    assert statuses == [404, 200]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_both_versions_of_http_1_are_answered(gateway: RunningGateway, version: str) -> None:
    content = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    answer = await gateway.send_raw(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)

    assert answer.status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_t38_compressed_bodies_are_refused_unread_and_leave_no_trace(
    gateway: RunningGateway, encoding: str, capfd: pytest.CaptureFixture[str]
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}

    answer = await gateway.ask("POST", "/v1/chat/completions", data=b"this is not compressed", headers=headers)

    assert (answer.status, answer.error["code"]) == (415, "unsupported_encoding")
    assert "Traceback" not in capfd.readouterr().err


async def test_an_expectation_nobody_can_meet_is_told_in_json(gateway: RunningGateway) -> None:
    answer = await gateway.send_raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: banana\r\nContent-Length: 0\r\n\r\n"
    )

    assert (answer.status, answer.error["code"]) == (417, "expectation_failed")
    assert answer.headers["x-request-id"]
