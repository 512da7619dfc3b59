"""OpenAI's clients that cannot live in this environment: Python 3.x and Node. Both run the same cases; here is what must come out."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Gateway, environment
from tests.support.contract import assert_stream_obeys_contract

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / ".venv-openai3" / "bin"
COMMANDS = {
    "openai3": (ENVIRONMENT / "python", HERE / "sdk3" / "essentials.py"),
    "node": (ENVIRONMENT / "node", HERE / "node" / "essentials.mjs"),
}
INSTALLED = {
    "openai3": ROOT / ".venv-openai3" / "installed",
    "node": HERE / "node" / "node_modules" / "installed",
}

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="session", params=COMMANDS)
def client_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def results(client_name: str, gateway: Gateway) -> Results:
    """What the client's program says of every case, run once against the session's gateway."""
    if not (INSTALLED[client_name].exists() and COMMANDS[client_name][0].exists()):
        reason = f"the client {client_name} is not installed; `make sdks` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    ended = subprocess.run(
        [*map(str, COMMANDS[client_name]), gateway.api_url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    outcome: Results = json.loads(ended.stdout)
    return outcome


def check_chat(value: Any) -> None:
    assert value["object"] == "chat.completion"
    assert value["role"] == "assistant"
    assert value["content"]
    assert value["finish_reason"] in {"stop", "length"}
    assert value["prompt_tokens"] > 0
    assert 0 < value["completion_tokens"] <= 12
    assert value["header"].startswith("req_")
    assert value["request_id"] == value["header"]
    assert value["deployment"] == "local/smollm2"


def check_stream(value: Any) -> None:
    assert_stream_obeys_contract([*map(json.dumps, value["chunks"]), "[DONE]"])


def check_stream_usage(value: Any) -> None:
    assert_stream_obeys_contract([*map(json.dumps, value["chunks"]), "[DONE]"], include_usage=True)


def check_stream_helper(value: Any) -> None:
    assert value["role"] == "assistant"
    assert value["content"]
    assert value["content"] == value["deltas"]
    assert value["finish_reason"] in {"stop", "length"}


def check_json_schema(value: Any) -> None:
    assert set(value) == {"yes", "reason"}
    assert isinstance(value["yes"], bool)
    assert isinstance(value["reason"], str)


def check_logprobs(value: Any) -> None:
    assert value
    for entry in value:
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 2


def check_several_choices(value: Any) -> None:
    assert [choice["index"] for choice in value] == [0, 1]
    assert all(choice["content"] for choice in value)


def check_legacy_completion(value: Any) -> None:
    assert value["object"] == "text_completion"
    assert value["text"]


def check_embeddings(value: Any) -> None:
    assert value["indices"] == [0, 1]
    assert value["prompt_tokens"] > 0
    for packed, plain in zip(value["packed"], value["plain"], strict=True):
        check_vector(packed)
        assert packed == pytest.approx(plain, abs=1e-6)


def check_embeddings_of_tokens(value: Any) -> None:
    assert len(value["one"]) == 1
    assert len(value["several"]) == 2
    for vector in [*value["one"], *value["several"]]:
        check_vector(vector)


def check_vector(vector: list[float]) -> None:
    assert len(vector) == 384
    assert math.sqrt(sum(number * number for number in vector)) == pytest.approx(1, abs=1e-4)


def check_models(value: Any) -> None:
    assert {"small", "medium", "large", "embedding"} <= set(value["names"])
    assert value["one"] == "small"


def check_unknown_model(value: Any) -> None:
    assert (value["class"], value["status"]) == ("NotFoundError", 404)
    assert (value["type"], value["code"], value["param"]) == ("invalid_request_error", "model_not_found", "model")
    assert value["request_id"].startswith("req_")


def check_bad_role(value: Any) -> None:
    assert (value["class"], value["status"]) == ("BadRequestError", 400)
    assert value["param"] == "messages[0].role"


def check_over_the_window(value: Any) -> None:
    assert (value["class"], value["status"]) == ("BadRequestError", 400)
    assert value["code"] == "context_length_exceeded"
    assert "maximum context length" in value["message"]


def check_left_early(value: Any) -> None:
    assert value["seen"] == "chat.completion.chunk"
    check_chat(value["next"])


def check_together(value: Any) -> None:
    assert len(value) == 4
    assert all(value)


CHECKS: dict[str, Callable[[Any], None]] = {
    "chat": check_chat,
    "stream": check_stream,
    "stream_usage": check_stream_usage,
    "stream_helper": check_stream_helper,
    "json_schema": check_json_schema,
    "logprobs": check_logprobs,
    "several_choices": check_several_choices,
    "legacy_completion": check_legacy_completion,
    "embeddings": check_embeddings,
    "embeddings_of_tokens": check_embeddings_of_tokens,
    "models": check_models,
    "unknown_model": check_unknown_model,
    "unknown_model_in_list": check_unknown_model,
    "bad_role": check_bad_role,
    "over_the_window": check_over_the_window,
    "left_early": check_left_early,
    "together": check_together,
}


@pytest.mark.parametrize("case", CHECKS)
def test_the_client_gets_what_it_relies_on(results: Results, case: str) -> None:
    assert "value" in results[case], results[case]

    CHECKS[case](results[case]["value"])


def test_every_case_is_checked_and_the_version_is_the_pinned_one(results: Results, client_name: str) -> None:
    wanted = {
        "openai3": re.findall(r"^openai==(\S+)$", (HERE / "sdk3" / "requirements.txt").read_text(), re.MULTILINE)[0],
        "node": json.loads((HERE / "node" / "package.json").read_text())["dependencies"]["openai"],
    }

    assert set(results) - {"version"} == set(CHECKS)
    assert results["version"]["value"] == wanted[client_name]
