"""The library litellm as the lane loads it: off the loop, quiet, and told from outside when it is missing."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.errors import UpstreamRejected, UpstreamUnavailable
from gateway.providers import LiteLLMSettings, why_unavailable
from gateway.providers.litellm import LiteLLM
from gateway.providers.litellm_engine import load
from tests.support.exchanges import make_exchange

PROMPT = "canary-prompt-4711"
KEY = "sk-ant-canary-0123456789"


async def refuse(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"type": "error", "error": {"type": "x", "message": "No"}}, status=400)


@pytest.fixture
async def lane() -> AsyncIterator[LiteLLM]:
    app = web.Application()
    app.router.add_post("/v1/messages", refuse)
    server = TestServer(app)
    await server.start_server()
    settings = LiteLLMSettings(kind="litellm", prefix="anthropic", base_url=str(server.make_url("/")), api_key=KEY)
    provider = LiteLLM("lab", settings)
    yield provider
    await provider.close()
    await server.close()


def test_everything_that_is_not_asking_is_off() -> None:
    library = load("anthropic")

    assert (library.cache, library.num_retries, library.drop_params, library.suppress_debug_info) == (
        None,
        0,
        False,
        True,
    )
    assert library.success_callback == library.failure_callback == library.callbacks == []


async def test_prompts_and_keys_are_neither_logged_nor_printed(
    lane: LiteLLM, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"model": "small", "messages": [{"role": "user", "content": PROMPT}]}

    for stream in (False, True):
        with pytest.raises(UpstreamRejected):
            await lane.send(make_exchange(model="claude-haiku-4-5", body=body, stream=stream))

    said = caplog.text + "".join(capfd.readouterr())
    assert PROMPT not in said
    assert KEY not in said


async def test_calls_that_come_before_it_is_loaded_wait_for_the_same_import(lane: LiteLLM) -> None:
    exchange = make_exchange(model="claude-haiku-4-5")

    outcomes = await asyncio.gather(lane.prepare(), *(lane.send(exchange) for _ in range(3)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [type(None), *[UpstreamRejected] * 3]
    assert await lane.is_ready("claude-haiku-4-5")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.png", "http://169.254.169.254/x.png", "file:///etc/passwd"])
async def test_pictures_are_never_fetched_from_inside(lane: LiteLLM, url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": PROMPT}]
    body = {"model": "small", "messages": [{"role": "user", "content": content}]}

    with pytest.raises(UpstreamRejected, match="takes media as data: URLs only") as caught:
        await lane.send(make_exchange(model="claude-haiku-4-5", body=body))

    assert caught.value.param == "messages[0].content"


async def test_without_the_library_a_call_says_what_to_install(lane: LiteLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)

    await lane.prepare()
    with pytest.raises(UpstreamUnavailable) as caught:
        await lane.send(make_exchange(model="claude-haiku-4-5"))

    assert why_unavailable() in caught.value.message
    assert "one-gateway[litellm]" in caught.value.message
    assert not await lane.is_ready("claude-haiku-4-5")
