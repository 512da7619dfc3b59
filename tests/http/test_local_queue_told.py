"""What callers and the log are told of a local model's queue, and what a full one means for the deployment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.rundir import model_socket
from tests.support.app import RunningGateway, make_config, running
from tests.support.upstream import Behaviour, Chat, ScriptedUpstream, Status

KEYS = [{"name": "app", "key": "sk-caller-0123456789abcdef"}]
MESSAGE = {"role": "assistant", "content": "Hello."}
WHOLE = {"object": "chat.completion", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}
WAITED = Status(200, WHOLE, headers={"x-gateway-queue-position": "3", "x-gateway-queue-milliseconds": "1250.5"})
FULL = Status(503, {"error": {"code": 503, "message": "full", "type": "queue_full"}}, retry_after="94")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the gateway of the test will have its one directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@asynccontextmanager
async def served(
    scratch: Path, behaviour: Behaviour, other: ScriptedUpstream | None = None
) -> AsyncIterator[tuple[RunningGateway, ScriptedUpstream]]:
    """Serve `small` by a local model whose front does `behaviour`, and perhaps by another."""
    config = json.loads(make_config("http://unused/v1", *([other] if other else []), keys=KEYS))
    config["providers"]["up0"] = {"kind": "llamacpp", "models": {"model": {"path": "model.gguf"}}}
    async with running(json.dumps(config)) as gateway:
        front = ScriptedUpstream(socket_path=model_socket(next(scratch.iterdir()), "up0", "model"))
        front.otherwise = behaviour
        async with front:
            yield gateway, front


async def test_the_wait_is_in_the_answer_and_in_the_log(scratch: Path) -> None:
    async with served(scratch, WAITED) as (gateway, front):
        answer = await gateway.post("chat/completions", key=KEYS[0]["key"])

    (line,) = gateway.lines()
    assert (answer.status, answer.headers["x-gateway-queue-position"]) == (200, "3")
    assert line["queue_milliseconds"] == 1250.5
    assert front.requests[0].headers["x-gateway-caller"] == "app"
    assert "x-gateway-max-queue" not in front.requests[0].headers


async def test_a_full_queue_says_when_to_come_back_and_the_model_is_asked_again(scratch: Path) -> None:
    async with served(scratch, FULL) as (gateway, front):
        answers = [await gateway.post("chat/completions", key=KEYS[0]["key"]) for _ in range(8)]

    assert {(answer.status, answer.headers["Retry-After"]) for answer in answers} == {(503, "94")}
    assert {answer.error["code"] for answer in answers} == {"local_queue_full"}
    assert {answer.error["type"] for answer in answers} == {"service_unavailable_error"}
    assert len(front.requests) == 8


async def test_another_deployment_answers_when_the_queue_is_full(scratch: Path) -> None:
    async with ScriptedUpstream() as other:
        other.otherwise = Chat()
        async with served(scratch, FULL, other) as (gateway, _):
            answer = await gateway.post("chat/completions", key=KEYS[0]["key"])

    assert (answer.status, answer.headers["x-gateway-attempts"]) == (200, "2")
    assert answer.headers["x-gateway-deployment"] == "up1/model"
    assert "x-gateway-queue-position" not in answer.headers
