"""What an OpenAI-wire upstream is sent."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import UpstreamProtocolError
from gateway.providers import Manners, OpenAIWire
from tests.support.exchanges import MESSAGES, make_exchange
from tests.support.upstream import Chat, Redirect, ScriptedUpstream, WithHeaders


async def test_the_model_is_ours_and_every_other_field_the_callers(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    body = {"model": "small", "messages": MESSAGES, "temperature": None, "min_p": 0.1, "deep": {"x": [1, {"y": "é"}]}}

    async with await wire.send(make_exchange(body=body, model="vendor/tiny-1")):
        pass

    assert upstream.requests[0].json == {**body, "model": "vendor/tiny-1"}


async def test_the_callers_body_is_not_changed(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    body = {"model": "small", "messages": MESSAGES, "stream_options": {"include_obfuscation": False}}

    async with await wire.send(make_exchange(body=body, settings={"temperature": 0.6}, stream=True)):
        pass

    assert body == {"model": "small", "messages": MESSAGES, "stream_options": {"include_obfuscation": False}}


async def test_settings_fill_in_only_what_the_caller_left_out(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    body = {"model": "small", "messages": MESSAGES, "temperature": 1.5, "top_p": None}
    settings = {"temperature": 0.6, "top_p": 0.9, "max_tokens": 100}

    async with await wire.send(make_exchange(body=body, settings=settings)):
        pass

    assert upstream.requests[0].json == {**body, "max_tokens": 100, "model": "upstream-model"}


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings"])
async def test_each_endpoint_has_its_path(wire: OpenAIWire, upstream: ScriptedUpstream, endpoint: Any) -> None:
    body = {"model": "m", "messages": MESSAGES, "prompt": "a", "input": "a"}

    async with await wire.send(make_exchange(endpoint=endpoint, body=body)):
        pass

    assert (upstream.requests[0].method, upstream.requests[0].path) == ("POST", f"/v1/{endpoint}")


async def test_a_slash_at_the_end_of_the_base_url_is_not_doubled(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url + "/")

    async with await wire.send(make_exchange()):
        pass
    await wire.close()

    assert upstream.requests[0].path == "/v1/chat/completions"


async def test_our_key_and_headers_are_sent_and_compression_is_not_asked_for(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url, api_key="sk-ours", headers={"OpenAI-Organization": "org-1"})

    async with await wire.send(make_exchange()):
        pass
    await wire.close()

    headers = upstream.requests[0].headers
    assert headers.getall("Authorization") == ["Bearer sk-ours"]
    assert headers["OpenAI-Organization"] == "org-1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Content-Length"] == str(len(upstream.requests[0].body))


async def test_without_a_key_no_authorization_is_sent(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url)

    async with await wire.send(make_exchange()):
        pass
    await wire.close()

    assert "Authorization" not in upstream.requests[0].headers


async def test_a_stream_asks_for_usage_beside_the_callers_own_options(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    body = {"model": "small", "messages": MESSAGES, "stream_options": {"include_obfuscation": False}}

    async with await wire.send(make_exchange(body=body, stream=True)):
        pass

    assert upstream.requests[0].json["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_an_upstream_that_knows_no_stream_options_is_not_sent_any(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url, manners=Manners(streams_usage=False))

    async with await wire.send(make_exchange(stream=True)):
        pass
    await wire.close()

    assert "stream_options" not in upstream.requests[0].json


async def test_a_plain_request_has_no_stream_options(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    async with await wire.send(make_exchange()):
        pass

    assert "stream_options" not in upstream.requests[0].json


async def test_a_body_of_several_megabytes_is_sent_whole(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "x" * 3_000_000}]}

    async with await wire.send(make_exchange(body=body)):
        pass

    assert upstream.requests[0].json == {**body, "model": "upstream-model"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(wire: OpenAIWire, upstream: ScriptedUpstream, status: int) -> None:
    async with ScriptedUpstream() as elsewhere:
        upstream.script(Redirect(status, elsewhere.base_url + "/chat/completions"))

        with pytest.raises(UpstreamProtocolError) as caught:
            await wire.send(make_exchange())

    assert caught.value.code == "upstream_redirect"
    assert elsewhere.requests == []


async def test_cookies_are_not_kept(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(WithHeaders(Chat(), (("Set-Cookie", "session=1"),)))

    for _ in range(2):
        async with await wire.send(make_exchange()):
            pass

    assert "Cookie" not in upstream.requests[1].headers


async def test_a_connection_is_used_again(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    for _ in range(3):
        async with await wire.send(make_exchange()):
            pass

    assert upstream.connections.opened == 1
