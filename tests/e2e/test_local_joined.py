"""One alias over a model on this machine and a hosted one: each stands in for the other."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.support.command import Gateway, serving
from tests.support.upstream import Chat, ScriptedUpstream, closed_port

CONFIG = """
providers:
  lab: {{kind: openai, base_url: "{lab}", api_key: x}}
  local: {{kind: llamacpp, models: {{tiny: {{path: "{path}", context_window: 1024, parallel: 1{more}}}}}}}
models:
  small: {{deployments: [{order}]{spill}}}
"""
SPILL = ", spill: {queue: 1}"
LOCAL, LAB = "local/tiny", "lab/tiny-1"


def make_yaml(lab: str, path: Path, *, order: str = f"{LOCAL}, {LAB}", spill: str = "", more: str = "") -> str:
    return CONFIG.format(lab=lab, path=path, order=order, spill=spill, more=more)


async def ask(session: aiohttp.ClientSession, gateway: Gateway, words: int = 4, *, stream: bool = False) -> str:
    """Return who answered a chat, or the error's code."""
    body: dict[str, Any] = {
        "model": "small",
        "messages": [{"role": "user", "content": "Count."}],
        "max_tokens": words,
        "stream": stream,
    }
    async with session.post(f"{gateway.api_url}/chat/completions", json=body) as reply:
        text = await reply.text()
        if reply.status != 200:
            return str(json.loads(text)["error"]["code"])
        if stream and not text.endswith("data: [DONE]\n\n"):
            return "broken off"
        return reply.headers["x-gateway-deployment"]


def asking() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60))


def loaded(gateway: Gateway) -> None:
    gateway.wait_for(lambda: gateway.events("model_ready"))


def model_process(gateway: Gateway) -> psutil.Process:
    (found,) = [child for child in psutil.Process(gateway.pid).children() if "gateway.worker" in child.cmdline()]
    return found


async def test_a_crowd_spills_over_and_the_queue_stays_short(tmp_path: Path, chat_gguf: Path) -> None:
    async with ScriptedUpstream() as lab:
        lab.otherwise = Chat()
        with serving(make_yaml(lab.base_url, chat_gguf, spill=SPILL), tmp_path) as gateway:
            loaded(gateway)
            async with asking() as session:
                alone = await ask(session, gateway)
                crowd = Counter(await asyncio.gather(*[ask(session, gateway, 60) for _ in range(8)]))
                after = await ask(session, gateway)
            waits = [line.get("queue_milliseconds") for line in gateway.events("request")]

    assert (alone, after) == (LOCAL, LOCAL)
    assert set(crowd) == {LOCAL, LAB}
    assert crowd[LOCAL] >= 2  # one at work and one behind it
    assert crowd.total() == 8
    assert None in waits  # hosted answers did not wait for the model


async def test_without_a_bound_a_crowd_waits_for_the_model(tmp_path: Path, chat_gguf: Path) -> None:
    async with ScriptedUpstream() as lab:
        lab.otherwise = Chat()
        with serving(make_yaml(lab.base_url, chat_gguf), tmp_path) as gateway:
            loaded(gateway)
            async with asking() as session:
                crowd = Counter(await asyncio.gather(*[ask(session, gateway) for _ in range(6)]))

    assert crowd == {LOCAL: 6}


async def test_a_model_that_is_not_loaded_is_loaded_while_the_hosted_one_answers(
    tmp_path: Path, chat_gguf: Path
) -> None:
    async with ScriptedUpstream() as lab:
        lab.otherwise = Chat()
        yaml = make_yaml(lab.base_url, chat_gguf, spill=SPILL, more=", load: first_use")
        with serving(yaml, tmp_path) as gateway:
            async with asking() as session:
                first = await ask(session, gateway)
                await asyncio.to_thread(loaded, gateway)
                later = await ask(session, gateway)

    assert (first, later) == (LAB, LOCAL)


async def test_when_the_network_is_gone_the_model_answers(tmp_path: Path, chat_gguf: Path) -> None:
    with closed_port() as port:
        yaml = make_yaml(f"http://127.0.0.1:{port}/v1", chat_gguf, order=f"{LAB}, {LOCAL}")
        with serving(yaml, tmp_path) as gateway:
            loaded(gateway)
            async with asking() as session:
                answers = [await ask(session, gateway, stream=bool(turn % 2)) for turn in range(6)]

    assert answers == [LOCAL] * 6


async def test_a_call_that_was_left_to_others_in_vain_waits_for_the_model_after_all(
    tmp_path: Path, chat_gguf: Path
) -> None:
    with closed_port() as port:
        yaml = make_yaml(f"http://127.0.0.1:{port}/v1", chat_gguf, spill=SPILL, more=", load: first_use")
        with serving(yaml, tmp_path) as gateway:
            async with asking() as session:
                first = await ask(session, gateway)
                crowd = Counter(await asyncio.gather(*[ask(session, gateway, 20) for _ in range(6)]))

    assert first == LOCAL
    assert crowd == {LOCAL: 6}


async def test_a_model_killed_under_load_costs_no_plain_answer_and_comes_back(tmp_path: Path, chat_gguf: Path) -> None:
    async with ScriptedUpstream() as lab:
        lab.otherwise = Chat()
        with serving(make_yaml(lab.base_url, chat_gguf), tmp_path) as gateway:
            loaded(gateway)
            async with asking() as session:
                crowd = [asyncio.create_task(ask(session, gateway, 60)) for _ in range(6)]
                await asyncio.sleep(0.1)
                model_process(gateway).send_signal(signal.SIGSEGV)
                during = Counter(await asyncio.gather(*crowd))
                await asyncio.to_thread(gateway.wait_for, lambda: len(gateway.events("model_ready")) == 2)
                later = await ask(session, gateway)

    assert set(during) <= {LOCAL, LAB}
    assert during[LAB] >= 1
    assert later == LOCAL
