"""When an upstream fails before its first event the next one answers; afterwards nothing is tried again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.support.app import RunningGateway, make_config, running
from tests.support.contract import assert_stream_obeys_contract, join_content, parse_sse
from tests.support.upstream import (
    Behaviour,
    Body,
    Chat,
    CommentsOnly,
    Cut,
    Embeddings,
    Ending,
    ErrorEvent,
    Events,
    Gate,
    Hang,
    Held,
    Html,
    Malformed,
    Raw,
    Reset,
    ScriptedUpstream,
    Status,
    Truncated,
    closed_port,
    make_error,
)

HASTE = {"first_event": 0.3, "between_events": 0.3}
SILENT = {"hang", "comments only", "silence"}  # what only a limit ends


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        upstream.otherwise = Chat("the second")
        yield upstream


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> AsyncIterator[RunningGateway]:
    """Serve `small` by both upstreams; in tests of silence with short limits."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    async with running(make_config(upstream, second, timeouts=HASTE if name in SILENT else None)) as gateway:
        yield gateway


MOVES_ON: dict[str, Behaviour] = {
    "500": Status(500),
    "502": Status(502),
    "503": Status(503),
    "504": Status(504),
    "529": Status(529),
    "429": Status(429, retry_after="1"),
    "401": Status(401),
    "403": Status(403),
    "404 model": Status(404, code="model_not_found"),
    "404 path": Status(404, "Not Found"),
    "408": Status(408),
    "402": Status(402),
    "redirect": Status(307, b"", headers={"Location": "/elsewhere"}),
    "reset": Reset(),
    "closed": Raw((Ending.CLOSE,)),
    "hang": Hang(),
    "no HTTP": Raw((b"nonsense\r\n\r\n",)),
    "a page": Html(),
}
EMPTY = {"nothing": Body(b"{}"), "no choices": Body(b'{"choices":[]}'), "a detail": Body(b'{"detail":"not found"}')}
PLAIN = {
    **EMPTY,
    "half JSON": Malformed(),
    "truncated": Truncated(),
    "error in 200": Body(b'{"error":{"message":"x"}}'),
}
STREAMED = {
    "error event first": ErrorEvent(),
    "comments only": CommentsOnly(),
    "ends at once": Events(()),
    "cut at once": Cut(Chat(stream=True), 0),
    "bad event first": Events((b"data: x\n\n",)),
    "JSON error in 200": Body(b'{"error":{"message":"x"}}'),
    "comment and error": Events((b': processing\n\ndata: {"error":{"message":"boom","code":503}}\n\n',)),
    "the end only": Events((b"data: [DONE]\n\n",)),
}


@pytest.mark.parametrize("name", [*MOVES_ON, *PLAIN])
async def test_a_plain_request_is_answered_by_the_next(
    pair: RunningGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script({**MOVES_ON, **PLAIN}[name])

    answer = await pair.chat()

    assert answer.json["choices"][0]["message"]["content"] == "the second"
    assert (answer.headers["x-gateway-deployment"], answer.headers["x-gateway-attempts"]) == ("up1/model", "2")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("name", [*MOVES_ON, *STREAMED])
async def test_a_stream_is_answered_by_the_next_when_no_event_came(
    pair: RunningGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script({**MOVES_ON, **STREAMED}[name])

    answer = await pair.chat(stream=True)

    assert_stream_obeys_contract(answer.events)
    assert join_content(answer.events) == "the second"


async def test_a_refused_connection_moves_on(second: ScriptedUpstream) -> None:
    with closed_port() as port:
        async with running(make_config(f"http://127.0.0.1:{port}/v1", second)) as gateway:
            answer = await gateway.chat()

    assert answer.json["choices"][0]["message"]["content"] == "the second"


async def test_embeddings_move_on_too(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.script(Status(500))
    second.script(Embeddings())

    answer = await pair.post("embeddings", {"model": "small", "input": "a"})

    assert answer.json["object"] == "list"


STAYS = {
    "400": (Status(400, code="invalid_value", param="top_p"), 400, "invalid_value", "top_p"),
    "too long": (Status(400, code="context_length_exceeded"), 400, "context_length_exceeded", "messages"),
    "413": (Status(413), 413, "request_too_large", None),
    "422": (Status(422, code="bad"), 422, "bad", None),
    "content filter": (Status(400, code="content_filter"), 400, "content_filter", None),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", STAYS)
async def test_what_the_request_is_to_blame_for_is_told_at_once(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream, name: str, stream: bool
) -> None:
    behaviour, status, code, param = STAYS[name]
    upstream.script(behaviour)

    answer = await pair.chat(stream=stream)

    assert answer.status == status
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert answer.error["type"] == "invalid_request_error"
    assert second.requests == []


FAILS = {
    "500": (Status(500), 502, "upstream_error", "server_error", None),
    "401": (Status(401), 502, "upstream_auth_failed", "server_error", None),
    "429": (Status(429, retry_after="2"), 429, "upstream_rate_limited", "rate_limit_error", "2"),
    "503": (Status(503, retry_after="0.2"), 503, "server_is_overloaded", "service_unavailable_error", "1"),
    "529": (Status(529), 503, "server_is_overloaded", "service_unavailable_error", None),
    "hang": (Hang(), 504, "upstream_timeout", "server_error", None),
    "404": (Status(404, code="model_not_found"), 502, "upstream_model_not_found", "server_error", None),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", FAILS)
async def test_when_all_fail_the_last_failure_is_told(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream, name: str, stream: bool
) -> None:
    behaviour, status, code, kind, wait = FAILS[name]
    upstream.script(Status(500))
    second.script(behaviour)

    answer = await pair.chat(stream=stream)

    assert answer.status == status
    assert (answer.error["code"], answer.error["type"]) == (code, kind)
    assert answer.headers.get("Retry-After") == wait


async def test_a_rate_limited_upstream_is_left_alone_and_all_of_them_make_503(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.script(Status(429, retry_after="30"))
    second.script(Chat("a"), Status(429, retry_after="20"))

    first = await pair.chat()
    limited = await pair.chat()
    resting = await pair.chat()

    assert (first.status, limited.status, resting.status) == (200, 429, 503)
    assert resting.error["code"] == "no_healthy_deployment"
    assert 18 <= int(resting.headers["Retry-After"]) <= 20
    assert 18_000 <= int(resting.headers["Retry-After-Ms"]) <= 20_000
    assert (len(upstream.requests), len(second.requests)) == (1, 2)


BREAKS = {
    "reset": (lambda gate: Cut(Held(Chat(stream=True), gate, 2), 3), "upstream_stream_interrupted"),
    "closed": (lambda gate: Cut(Held(Chat(stream=True), gate, 2), 3, Ending.CLOSE), "upstream_stream_interrupted"),
    "silence": (lambda gate: Cut(Held(Chat(stream=True), gate, 2), 3, Ending.HANG), "upstream_stream_stalled"),
    "error event": (lambda gate: ErrorEvent(3, Held(Chat(stream=True), gate, 2)), "upstream_error"),
    "refusal": (
        lambda gate: ErrorEvent(3, Held(Chat(stream=True), gate, 2), make_error(400, code="content_filter")),
        "content_filter",
    ),
    "no finish": (
        lambda gate: Held(Chat(finish_reason=None, done=False, usage=None), gate, 2),
        "upstream_stream_interrupted",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_after_content_a_failure_is_one_event_without_done(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream, name: str
) -> None:
    make, code = BREAKS[name]
    gate = Gate()
    upstream.script(make(gate))
    gate.open()

    answer = await pair.chat(stream=True)

    *good, last = answer.events
    assert answer.status == 200
    assert good
    assert all("choices" in json.loads(event) for event in good)
    assert set(json.loads(last)) == {"error"}
    assert json.loads(last)["error"]["code"] == code
    assert b"[DONE]" not in answer.body
    assert second.requests == []


async def test_the_error_event_comes_as_soon_as_the_stream_breaks(
    pair: RunningGateway, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(ErrorEvent(2, Held(Chat(stream=True), gate, before=1)))

    async with pair.session.post(
        pair.base_url + "/chat/completions",
        json={"model": "small", "stream": True, "messages": [{"role": "user", "content": "x"}]},
    ) as response:
        first = await response.content.readuntil(b"\n\n")
        gate.open()
        rest = await response.read()

    assert "choices" in json.loads(parse_sse(first)[0])
    assert [list(json.loads(event)) for event in parse_sse(rest)] == [["error"]]


async def test_a_stream_that_only_lacks_done_is_whole(pair: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(Chat(done=False))

    assert_stream_obeys_contract((await pair.chat(stream=True)).events)


async def test_a_bare_error_word_in_a_stream_is_told_too(pair: RunningGateway, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    held = Held(Chat(stream=True), gate, before=1)
    upstream.script(ErrorEvent(4, held, {"error": "out of memory"}))
    gate.open()

    answer = await pair.chat(stream=True)

    assert "out of memory" in json.loads(answer.events[-1])["error"]["message"]


async def test_one_failing_upstream_costs_no_request_of_many(pair: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Status(500)

    answers = await asyncio.gather(*(pair.chat(stream=bool(number % 2)) for number in range(40)))

    assert {answer.status for answer in answers} == {200}


async def test_clients_are_told_not_to_retry_what_the_gateway_tried_elsewhere(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.script(Status(500))
    second.script(Status(500))

    answer = await pair.chat()

    assert (answer.status, answer.headers["x-gateway-attempts"]) == (502, "2")
    assert answer.headers["x-should-retry"] == "false"
