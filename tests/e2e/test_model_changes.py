"""Callers of real models that are being loaded or make room: they wait and are answered, however short their patience."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil

from tests.support.command import Gateway, serving

# The first event may take far less time than the model takes to come.
YAML = """
providers:
  local:
    kind: llamacpp
    {budget}
    models:
      chat: {{path: "{chat}", context_window: 2048, parallel: 1, load: first_use}}
      words: {{path: "{words}", embedding: true, load: first_use}}
models:
  small:
    timeouts: {{first_event_seconds: {first_event}}}
    deployments: [local/chat]
  embedding: {{deployments: [local/words]}}
"""
BRIEF: openai.types.chat.ChatCompletionUserMessageParam = {"role": "user", "content": "Hi."}
LONG: openai.types.chat.ChatCompletionUserMessageParam = {"role": "user", "content": "Tell a long story."}


@contextmanager
def running(text: str, directory: Path) -> Iterator[tuple[Gateway, openai.OpenAI]]:
    with (
        serving(text, directory) as gateway,
        openai.OpenAI(base_url=gateway.api_url, api_key="unused", max_retries=0, timeout=100) as client,
    ):
        yield gateway, client


def model_processes(gateway: Gateway) -> list[psutil.Process]:
    return [child for child in psutil.Process(gateway.pid).children() if "gateway.worker" in child.cmdline()]


def read_chat(client: openai.OpenAI, tokens: int = 2) -> int:
    """Return how many chunks a streamed answer has."""
    body = {"ignore_eos": tokens > 2}
    with client.chat.completions.create(
        model="small", messages=[LONG if tokens > 2 else BRIEF], max_tokens=tokens, stream=True, extra_body=body
    ) as stream:
        return sum(1 for _ in stream)


def embed(client: openai.OpenAI) -> int:
    return len(client.embeddings.create(model="embedding", input="hello").data[0].embedding)


def test_a_first_use_that_takes_longer_to_load_than_an_answer_may_take_is_answered(
    tmp_path: Path, chat_gguf: Path, embedding_gguf: Path
) -> None:
    text = YAML.format(budget="", chat=chat_gguf, words=embedding_gguf, first_event=1.0)
    with running(text, tmp_path) as (gateway, client), ThreadPoolExecutor(4) as callers:
        asking = [callers.submit(read_chat, client) for _ in range(4)]
        gateway.wait_for(lambda: model_processes(gateway))
        (loading,) = model_processes(gateway)
        loading.send_signal(signal.SIGSTOP)  # as a slow disk holds it up
        late = [_is_late(task, 3.0) for task in asking[:1]]
        loading.send_signal(signal.SIGCONT)

        counts = [task.result() for task in asking]

        assert late == [True]
        assert all(counts)
        assert gateway.events("deployment") == []  # nobody took it for ill
        assert {line["status"] for line in gateway.events("request")} == {200}


def test_who_comes_while_a_model_makes_room_is_answered_when_it_is_back(
    tmp_path: Path, chat_gguf: Path, embedding_gguf: Path
) -> None:
    text = YAML.format(budget="memory_mb: 300", chat=chat_gguf, words=embedding_gguf, first_event=4.0)
    with running(text, tmp_path) as (gateway, client), ThreadPoolExecutor(4) as callers:
        story = callers.submit(read_chat, client, 700)
        gateway.wait_for(lambda: gateway.events("model_ready"))
        size = callers.submit(embed, client)
        gateway.wait_for(lambda: gateway.events("model_evicted"))

        counts = list(callers.map(lambda _: read_chat(client), range(2)))

        assert all(counts)
        assert story.result() > 300
        assert size.result() == 384
        assert gateway.events("model_ended") == []
        assert gateway.events("deployment") == []
        assert [line["model"] for line in gateway.events("model_ready")][-1] == "local/chat"


def _is_late(task: Future[int], seconds: float) -> bool:
    try:
        task.result(seconds)
    except TimeoutError:
        return True
    return False
