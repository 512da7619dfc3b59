"""Real models come and go with their callers: loaded at first use, unloaded, ended for one another, killed by their limit."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil
import pytest

from tests.support.command import Gateway, serving

YAML = """
embeddings: {{cache: null}}
providers:
  local:
    kind: llamacpp
    {budget}
    models:
      chat: {{path: "{chat}", classes: [small], context_window: 256, parallel: 1, {chat_life}}}
      words: {{path: "{words}", classes: [embedding], embedding: true, {words_life}}}
"""
FIRST_USE = "load: first_use"


@pytest.fixture
def yaml(chat_gguf: Path, embedding_gguf: Path) -> str:
    return YAML.replace("{chat}", str(chat_gguf)).replace("{words}", str(embedding_gguf))


@contextmanager
def running(text: str, directory: Path) -> Iterator[tuple[Gateway, openai.OpenAI]]:
    with (
        serving(text, directory) as gateway,
        openai.OpenAI(base_url=gateway.api_url, api_key="unused", max_retries=0, timeout=60) as client,
    ):
        yield gateway, client


def chat(client: openai.OpenAI) -> str:
    reply = client.chat.completions.create(model="small", messages=[{"role": "user", "content": "Hi."}], max_tokens=4)
    return reply.choices[0].message.content or ""


def embed(client: openai.OpenAI) -> int:
    return len(client.embeddings.create(model="embedding", input="hello").data[0].embedding)


def model_processes(gateway: Gateway) -> list[psutil.Process]:
    return [child for child in psutil.Process(gateway.pid).children() if "gateway.worker" in child.cmdline()]


def names_of(gateway: Gateway, event: str) -> list[str]:
    return [line["model"] for line in gateway.events(event)]


def test_models_are_loaded_when_first_asked_and_count_as_ready_before(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client):
        gateway.wait_for(lambda: gateway.get("/readyz")[0] == 200)
        assert model_processes(gateway) == []

        with ThreadPoolExecutor(6) as callers:
            texts = list(callers.map(lambda _: chat(client), range(6)))

        assert all(texts)
        assert names_of(gateway, "model_ready") == ["local/chat"]
        assert embed(client) == 384
        assert len(model_processes(gateway)) == 2


def test_an_unused_model_is_unloaded_and_comes_back(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="", chat_life=FIRST_USE, words_life="keep_alive_seconds: 0.3")
    with running(text, tmp_path) as (gateway, client):
        gateway.wait_for(lambda: gateway.events("model_unloaded"))
        gateway.wait_for(lambda: not model_processes(gateway))
        assert gateway.get("/readyz")[0] == 200

        assert embed(client) == 384

        assert names_of(gateway, "model_ready") == ["local/words"] * 2
        assert gateway.events("model_ended") == []
        assert b'gateway_local_worker_restarts_total{deployment="local/words"} 0.0' in gateway.get("/metrics")[1]


def test_callers_notice_nothing_of_a_model_that_is_unloaded_between_any_two_of_them(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="", chat_life=FIRST_USE, words_life="load: first_use, keep_alive_seconds: 0.01")
    with running(text, tmp_path) as (gateway, client):
        sizes = [embed(client) for _ in range(4)]

        assert sizes == [384] * 4
        gateway.wait_for(lambda: gateway.events("model_unloaded"))


def test_a_model_that_is_asked_for_ends_an_idle_one(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="memory_mb: 240", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client):
        answers = [embed(client), bool(chat(client)), embed(client)]

        assert answers == [384, True, 384]
        assert names_of(gateway, "model_evicted") == ["local/words", "local/chat"]
        assert len(model_processes(gateway)) == 1


def test_two_models_that_are_both_wanted_all_the_time_take_turns_and_no_call_fails(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="memory_mb: 240", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client), ThreadPoolExecutor(3) as callers:
        is_over = threading.Event()

        def chat_on() -> int:
            answers = 0
            while not is_over.is_set():
                assert chat(client)
                answers += 1
            return answers

        chatting = [callers.submit(chat_on) for _ in range(3)]  # so that the model is never idle
        gateway.wait_for(lambda: gateway.events("model_ready"))
        try:
            sizes = [embed(client) for _ in range(2)]
        finally:
            is_over.set()

        assert all(task.result() for task in chatting)
        assert sizes == [384, 384]
        assert {"local/chat", "local/words"} <= set(names_of(gateway, "model_evicted"))
        assert gateway.events("model_ended") == []


def test_a_model_that_is_asked_for_again_and_again_while_others_end_it_loses_no_call(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="memory_mb: 240", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client), ThreadPoolExecutor(2) as callers:
        chats = callers.submit(lambda: [bool(chat(client)) for _ in range(5)])
        sizes = callers.submit(lambda: [embed(client) for _ in range(5)])

        assert (chats.result(), sizes.result()) == ([True] * 5, [384] * 5)
        assert gateway.events("model_ended") == []


def test_two_models_of_which_each_is_asked_one_call_at_a_time_alternate_in_batches(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="memory_mb: 240", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client), ThreadPoolExecutor(2) as callers:
        is_over = threading.Event()

        def ask_on(ask: Callable[[openai.OpenAI], object]) -> int:
            answers = 0
            while not is_over.is_set():
                assert ask(client)
                answers += 1
            return answers

        asking = [callers.submit(ask_on, one) for one in (chat, embed)]
        try:
            gateway.wait_for(lambda: len(names_of(gateway, "model_ready")) == 4, timeout=90)
        finally:
            is_over.set()
        chats, embeddings = (task.result() for task in asking)

        loaded = names_of(gateway, "model_ready")
        assert loaded[:4] in (["local/chat", "local/words"] * 2, ["local/words", "local/chat"] * 2)
        assert min(chats, embeddings) >= 4  # where one call for each loading would be two
        assert gateway.events("model_ended") == []


def test_a_model_that_hangs_is_ended_and_comes_back(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client):
        embed(client)
        (victim,) = model_processes(gateway)

        victim.send_signal(signal.SIGSTOP)
        with pytest.raises(openai.InternalServerError) as caught:
            embed(client)
        gateway.wait_for(lambda: len(gateway.events("model_ready")) == 2)

        assert caught.value.status_code == 503
        (ended,) = gateway.events("model_ended")
        assert ended["reason"] == "its process did not answer any more."
        assert embed(client) == 384


def test_a_model_that_can_never_fit_is_told_and_harms_no_other(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="memory_mb: 140", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client):
        with pytest.raises(openai.InternalServerError) as first:
            chat(client)
        gateway.wait_for(lambda: gateway.events("model_too_large"))
        with pytest.raises(openai.InternalServerError) as second:
            chat(client)

        assert (first.value.status_code, second.value.status_code) == (503, 503)
        assert "MiB of memory, and 140 MiB are allowed" in second.value.message
        assert embed(client) == 384
        assert (gateway.get("/readyz")[0], json.loads(gateway.get("/readyz")[1])["aliases"]) == (503, ["small"])


def test_a_model_that_is_killed_while_it_is_idle_is_started_again(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client):
        embed(client)
        (victim,) = model_processes(gateway)

        victim.send_signal(signal.SIGKILL)
        gateway.wait_for(lambda: len(gateway.events("model_ready")) == 2)

        assert embed(client) == 384


def test_a_model_that_the_system_kills_at_work_costs_its_own_callers_alone(yaml: str, tmp_path: Path) -> None:
    text = yaml.format(budget="memory_mb: 2000", chat_life=FIRST_USE, words_life=FIRST_USE)
    with running(text, tmp_path) as (gateway, client):
        embed(client)
        (other,) = model_processes(gateway)
        story: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Tell a long story."}]
        with client.chat.completions.create(model="small", messages=story, max_tokens=200, stream=True) as stream:
            next(stream)
            (victim,) = (one for one in model_processes(gateway) if one != other)

            victim.send_signal(signal.SIGKILL)  # as Linux does when memory runs out
            with pytest.raises(openai.APIError) as caught:
                list(stream)

        assert caught.value.code == "upstream_stream_interrupted"
        assert embed(client) == 384
        assert other.is_running()
        gateway.wait_for(lambda: names_of(gateway, "model_ready").count("local/chat") == 2)
        assert chat(client)
