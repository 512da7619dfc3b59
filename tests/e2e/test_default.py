"""What the configuration as shipped promises: no account, every class, hosted providers in front, models that may fail."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.support.command import Gateway, run, serving
from tests.support.upstream import Chat, ScriptedUpstream, Status, closed_port

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]

LAB_FIRST = """
providers:
  lab: {{kind: openai, base_url: "{lab}", api_key: x}}
  local: {{kind: llamacpp, models: {{tiny: {{path: "{path}", classes: [small], context_window: 1024}}}}}}
models:
  small: {{deployments: [{order}]}}
"""


@contextmanager
def asking(gateway: Gateway, *, max_retries: int = 0) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.api_url, api_key="unused", max_retries=max_retries, timeout=60) as made:
        yield made


def until_loaded(gateway: Gateway) -> None:
    gateway.wait_for(lambda: gateway.events("model_ready"))


def answered_by(client: openai.OpenAI, model: str = "small") -> tuple[str, str | None]:
    """Return the deployment that answered a chat, and its text."""
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=4)
    return raw.headers["x-gateway-deployment"], raw.parse().choices[0].message.content


def model_processes(gateway: Gateway) -> list[psutil.Process]:
    return [child for child in psutil.Process(gateway.pid).children() if "gateway.worker" in child.cmdline()]


def test_the_shipped_configuration_checks_without_any_key(shipped_directory: Path, shipped_yaml: str) -> None:
    (shipped_directory / "checked.yaml").write_text(shipped_yaml)

    ended = run("check", "checked.yaml", directory=shipped_directory)

    assert ended.returncode == 0, ended.stderr


def test_it_is_ready_and_every_class_is_listed(gateway: Gateway) -> None:
    status, body = gateway.get("/v1/models")

    assert gateway.get("/readyz")[0] == 200
    assert status == 200
    assert [model["id"] for model in json.loads(body)["data"]] == ["small", "medium", "large", "embedding", "auto"]


def test_it_listens_on_this_machine_alone(gateway: Gateway) -> None:
    family = [psutil.Process(gateway.pid), *psutil.Process(gateway.pid).children(recursive=True)]

    listening = [
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert set(listening) == {"127.0.0.1"}


def test_a_key_in_the_environment_puts_its_provider_in_front(
    shipped_directory: Path, shipped_yaml: str, tmp_path: Path
) -> None:
    (tmp_path / "gateway.yaml").write_text(shipped_yaml)

    ended = run("check", "gateway.yaml", directory=tmp_path, environ={"OPENAI_API_KEY": "sk-not-to-be-shown"})

    assert ended.returncode == 0
    assert "sk-not-to-be-shown" not in ended.stdout + ended.stderr
    assert ended.stdout.index("openai/") < ended.stdout.index("local/smollm2")


async def test_a_hosted_provider_in_front_answers(tmp_path: Path, chat_gguf: Path) -> None:
    async with ScriptedUpstream() as lab:
        yaml = LAB_FIRST.format(lab=lab.base_url, path=chat_gguf, order="lab/tiny-1, local/tiny")
        with serving(yaml, tmp_path) as gateway:
            status, text = await ask_lab(gateway)

        assert (status, text) == ("lab/tiny-1", "Hello there")
        assert lab.requests[0].model == "tiny-1"


async def test_the_local_model_answers_while_the_hosted_one_fails(tmp_path: Path, chat_gguf: Path) -> None:
    async with ScriptedUpstream() as lab:
        yaml = LAB_FIRST.format(lab=lab.base_url, path=chat_gguf, order="lab/tiny-1, local/tiny")
        lab.script(Status(502), Status(500), Chat("back again"))
        with serving(yaml, tmp_path) as gateway:
            until_loaded(gateway)
            names = [(await ask_lab(gateway))[0] for _ in range(3)]

    assert names == ["local/tiny", "local/tiny", "lab/tiny-1"]


async def ask_lab(gateway: Gateway) -> tuple[str, str | None]:
    """Ask as a program in a loop of its own does; the far side runs in this one."""
    async with openai.AsyncOpenAI(base_url=gateway.api_url, api_key="unused", max_retries=0, timeout=60) as client:
        raw = await client.chat.completions.with_raw_response.create(model="small", messages=HELLO, max_tokens=4)
    return raw.headers["x-gateway-deployment"], raw.parse().choices[0].message.content


def test_the_local_model_answers_while_the_hosted_one_is_not_there(tmp_path: Path, chat_gguf: Path) -> None:
    with closed_port() as port:
        yaml = LAB_FIRST.format(lab=f"http://127.0.0.1:{port}/v1", path=chat_gguf, order="lab/tiny-1, local/tiny")
        with serving(yaml, tmp_path) as gateway, asking(gateway) as client:
            until_loaded(gateway)

            raw = client.chat.completions.with_raw_response.create(model="small", messages=HELLO, max_tokens=4)
            with client.chat.completions.create(model="small", messages=HELLO, max_tokens=4, stream=True) as stream:
                streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert raw.headers["x-gateway-deployment"] == "local/tiny"
    assert raw.headers["x-gateway-attempts"] == "2"
    assert streamed


def test_a_killed_model_costs_one_503_and_comes_back(tmp_path: Path, chat_gguf: Path) -> None:
    yaml = f'providers: {{local: {{kind: llamacpp, models: {{tiny: {{path: "{chat_gguf}", classes: [small]}}}}}}}}'
    with serving(yaml, tmp_path) as gateway, asking(gateway) as client:
        until_loaded(gateway)
        (victim,) = model_processes(gateway)

        victim.send_signal(signal.SIGSEGV)
        gateway.wait_for(lambda: gateway.events("model_ended"))
        with pytest.raises(openai.InternalServerError) as caught:
            answered_by(client)
        gateway.wait_for(lambda: len(gateway.events("model_ready")) == 2)

        assert caught.value.status_code == 503
        assert caught.value.code == "local_model_unavailable"
        assert answered_by(client)[1]
        assert gateway.get("/readyz")[0] == 200
        assert b'gateway_local_worker_restarts_total{deployment="local/tiny"} 1.0' in gateway.get("/metrics")[1]


def test_a_program_with_the_clients_own_retries_does_not_notice_a_killed_model(tmp_path: Path, chat_gguf: Path) -> None:
    yaml = f'providers: {{local: {{kind: llamacpp, models: {{tiny: {{path: "{chat_gguf}", classes: [small]}}}}}}}}'
    with serving(yaml, tmp_path) as gateway, asking(gateway, max_retries=5) as client:
        until_loaded(gateway)
        (victim,) = model_processes(gateway)

        victim.send_signal(signal.SIGSEGV)

        assert answered_by(client)[1]


async def test_the_next_deployment_answers_while_a_killed_model_restarts(tmp_path: Path, chat_gguf: Path) -> None:
    async with ScriptedUpstream() as lab:
        yaml = LAB_FIRST.format(lab=lab.base_url, path=chat_gguf, order="local/tiny, lab/tiny-1")
        with serving(yaml, tmp_path) as gateway:
            until_loaded(gateway)
            (victim,) = model_processes(gateway)
            before = await ask_lab(gateway)

            victim.send_signal(signal.SIGSEGV)
            gateway.wait_for(lambda: gateway.events("model_ended"))
            during = await ask_lab(gateway)

    assert (before[0], during[0]) == ("local/tiny", "lab/tiny-1")


def test_files_that_are_no_models_are_told_and_harm_no_other(
    tmp_path: Path, chat_gguf: Path, embedding_gguf: Path
) -> None:
    with chat_gguf.open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(8 * 1024 * 1024))
    (tmp_path / "text.gguf").write_text("This is no model.\n" * 100)
    yaml = f"""
providers:
  local:
    kind: llamacpp
    models:
      good: {{path: "{embedding_gguf}", classes: [embedding], embedding: true}}
      cut: {{path: cut.gguf}}
      text: {{path: text.gguf}}
      missing: {{path: missing.gguf}}
models:
  cut: {{deployments: [local/cut]}}
  text: {{deployments: [local/text]}}
  missing: {{deployments: [local/missing]}}
"""
    with serving(yaml, tmp_path) as gateway, asking(gateway) as client:
        gateway.wait_for(lambda: len(gateway.events("model_ended")) == 2 and gateway.events("model_ready"))

        for name in ("cut", "text", "missing"):
            with pytest.raises(openai.InternalServerError) as caught:
                answered_by(client, name)

            assert caught.value.status_code == 503
            assert caught.value.code == "local_model_unavailable"
            assert name in caught.value.message
            assert str(tmp_path) not in caught.value.message  # paths of this machine are nobody's business
        status, body = gateway.get("/readyz")
        assert (status, json.loads(body)["aliases"]) == (503, ["cut", "text", "missing"])
        assert gateway.get("/healthz")[0] == 200
        assert len(client.embeddings.create(model="embedding", input="hello").data[0].embedding) == 384
        assert len(model_processes(gateway)) == 1


def test_a_model_that_arrives_later_is_taken_up(tmp_path: Path, embedding_gguf: Path) -> None:
    late = tmp_path / "late.gguf"
    yaml = f"""
providers:
  local: {{kind: llamacpp, models: {{late: {{path: "{late}", classes: [embedding], embedding: true}}}}}}
"""
    with serving(yaml, tmp_path) as gateway, asking(gateway) as client:
        gateway.wait_for(lambda: gateway.events("model_missing"))

        late.symlink_to(embedding_gguf)
        gateway.wait_for(lambda: gateway.events("model_ready"))

        assert client.embeddings.create(model="embedding", input="hello").data
        assert gateway.get("/readyz")[0] == 200


def test_nothing_is_left_behind(tmp_path: Path, chat_gguf: Path) -> None:
    yaml = f'providers: {{local: {{kind: llamacpp, models: {{tiny: {{path: "{chat_gguf}", classes: [small]}}}}}}}}'
    private = tmp_path / "private"
    private.mkdir()
    with serving(yaml, tmp_path, environ={"TMPDIR": str(private)}) as gateway, asking(gateway) as client:
        until_loaded(gateway)
        family = psutil.Process(gateway.pid).children(recursive=True)
        answered_by(client)

        assert gateway.stop() == 0

    until = time.monotonic() + 5
    while any(process.is_running() for process in family) and time.monotonic() < until:
        time.sleep(0.01)
    assert not [process for process in family if process.is_running()]
    assert list(private.iterdir()) == []
