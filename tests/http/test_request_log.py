"""Every answer has an id of its own, every request one log line, and no line has a secret."""

from __future__ import annotations

import re

import pytest

from tests.support.app import UPSTREAM_KEY, RunningGateway, make_config, running
from tests.support.upstream import Chat, Cut, ScriptedUpstream, Status

CALLER_KEY = "sk-caller-canary-9876543210"
KEYS = [{"name": "app", "key": CALLER_KEY}, {"name": "ops", "key": "sk-ops-canary-555555", "role": "admin"}]


async def test_every_answer_has_an_id_of_its_own(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.for_model("broken", Status(500))

    answers = [
        await gateway.chat(),
        await gateway.chat(stream=True),
        await gateway.chat(model="nobody"),
        await gateway.chat(model="up0/broken"),
        await gateway.chat(messages="x"),
        *[
            await gateway.ask("GET", path)
            for path in ("/healthz", "/metrics", "/v1/models", "/nothing", "/v1/embeddings")
        ],
        await gateway.ask("GET", "/healthz", headers={"Host": "evil.test"}),
        await gateway.ask("POST", "/v1/embeddings", data=b"x"),
        await gateway.send_raw(b"nonsense\r\n\r\n"),
    ]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", found) for found in ids)


async def test_an_id_that_the_caller_sends_is_not_taken_over(gateway: RunningGateway) -> None:
    answer = await gateway.ask("GET", "/healthz", headers={"x-request-id": "mine"})

    assert answer.headers["x-request-id"] != "mine"


async def test_a_request_has_one_line_with_the_documented_fields(upstream: ScriptedUpstream) -> None:
    async with running(make_config(upstream, keys=KEYS)) as gateway:
        answer = await gateway.post("chat/completions", key=CALLER_KEY)

    (line,) = gateway.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("milliseconds") >= line.pop("upstream_milliseconds") > 0
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": answer.headers["x-request-id"],
        "method": "POST",
        "endpoint": "/v1/chat/completions",
        "status": 200,
        "caller": "app",
        "model": "small",
        "stream": False,
        "deployment": "up0/model",
        "attempts": 1,
        "prompt_tokens": 9,
        "completion_tokens": 12,
    }


async def test_a_failed_request_tells_what_was_tried(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(500, message="exploded"))
    async with running(make_config(upstream)) as gateway:
        await gateway.chat(stream=True)

    (line,) = gateway.lines()
    assert (line["status"], line["level"], line["error"]) == (502, "warning", "upstream_error")
    assert line["stream"] is True
    (tried,) = line["tried"]
    assert (tried["deployment"], tried["outcome"]) == ("up0/model", "upstream_error")
    assert "exploded" in tried["detail"]


async def test_a_stream_that_broke_is_logged_as_a_failure(upstream: ScriptedUpstream) -> None:
    upstream.script(Cut(Chat(), 3))
    async with running(make_config(upstream)) as gateway:
        await gateway.chat(stream=True)

    (line,) = gateway.lines()
    assert (line["status"], line["error"]) == (200, "upstream_stream_interrupted")
    assert line["tried"][0]["outcome"] == "upstream_stream_interrupted"


async def test_a_streams_tokens_are_logged_though_nobody_asked(upstream: ScriptedUpstream) -> None:
    async with running(make_config(upstream)) as gateway:
        await gateway.chat(stream=True)

    (line,) = gateway.lines()
    assert (line["prompt_tokens"], line["completion_tokens"]) == (9, 12)


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/models"])
async def test_requests_that_ask_no_model_have_a_line_too(path: str) -> None:
    async with running(make_config("http://127.0.0.1:9/v1")) as gateway:
        answer = await gateway.ask("GET", path)

    (line,) = gateway.lines()
    assert line["status"] == answer.status
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["endpoint"] == (path if path != "/nothing" else "other")


REFUSED = {
    "another site's name": ({"Host": "evil.test"}, 421, "unknown_host"),
    "an expectation nobody can meet": ({"Expect": "banana"}, 417, "expectation_failed"),
}


@pytest.mark.parametrize(("headers", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused_by_its_head_has_a_line_with_its_route(
    headers: dict[str, str], status: int, code: str
) -> None:
    async with running(make_config("http://127.0.0.1:9/v1")) as gateway:
        answer = await gateway.ask("GET", "/v1/models", headers=headers)

    (line,) = gateway.lines()
    assert (answer.status, line["status"]) == (status, status)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["endpoint"], line["error"]) == ("/v1/models", code)


@pytest.mark.parametrize("path", ["/v1/%6Dodels", "/v1/models?", "/v1/models?limit=2"])
async def test_one_route_in_other_spellings_is_the_same_route(path: str) -> None:
    async with running(make_config("http://127.0.0.1:9/v1")) as gateway:
        answer = await gateway.send_raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    (line,) = gateway.lines()
    assert (answer.status, line["endpoint"]) == (200, "/v1/models")


async def test_no_secret_is_in_any_line_or_answer(upstream: ScriptedUpstream) -> None:
    upstream.for_model("echo", Status(500, message=f"key {UPSTREAM_KEY} and {CALLER_KEY}"))
    upstream.for_model("reject", Status(400, message=f"key {UPSTREAM_KEY}", code=UPSTREAM_KEY, param=UPSTREAM_KEY))
    async with running(make_config(upstream, keys=KEYS)) as gateway:
        answers = [
            await gateway.post("chat/completions", key=CALLER_KEY),
            await gateway.post("chat/completions", key=CALLER_KEY, model=CALLER_KEY),
            await gateway.post("chat/completions", key=CALLER_KEY, model=UPSTREAM_KEY),
            await gateway.post("chat/completions", key=CALLER_KEY, model="up0/echo"),
            await gateway.post("chat/completions", key=CALLER_KEY, model="up0/reject"),
            await gateway.post("chat/completions", key=CALLER_KEY + "wrong"),
            await gateway.ask("GET", "/metrics", headers={"Authorization": "Bearer sk-ops-canary-555555"}),
            await gateway.ask("GET", f"/v1/models/{UPSTREAM_KEY}", headers={"Authorization": f"Bearer {CALLER_KEY}"}),
        ]

    log = gateway.log.getvalue()
    assert len(gateway.lines()) == len(answers)
    for secret in (UPSTREAM_KEY, CALLER_KEY, "sk-ops-canary-555555"):
        assert secret.encode() not in log
    leaks = [answer.body for answer in answers[3:6] if b"canary" in answer.body]
    assert leaks == []
