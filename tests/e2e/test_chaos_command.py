"""`gateway chaos` as operators and their pipelines run it: the command, its output, its exit codes, and whom it asks."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from gateway.chaos import faults
from tests.support.command import run

# One of each way to fail that takes no time, and one that takes all patience.
FEW = ("--fault", "server-error", "--fault", "refused", "--fault", "hang", "--fault", "stall", "--patience", "0.3")
PAIR = """
providers:
  one: {kind: openai, base_url: "http://127.0.0.1:PORT/v1", api_key: "${ONE_KEY}"}
  two: {kind: openai, base_url: "http://localhost:PORT/v1", api_key: "${TWO_KEY}"}
models:
  talk: {deployments: [one/a, two/b]}
"""
LONE = """
providers:
  one: {kind: openai, base_url: "http://127.0.0.1:PORT/v1"}
models:
  alone: {deployments: [one/a]}
"""


class Canary:
    """A port that counts who connects."""

    def __init__(self, listener: socket.socket) -> None:
        self.port = listener.getsockname()[1]
        self.connections = 0
        self._listener = listener
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            self.connections += 1
            connection.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Canary(listener)
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def written(text: str, directory: Path, port: int = 9) -> Iterator[Path]:
    file = directory / "gateway.yaml"
    file.write_text(text.replace("PORT", str(port)), encoding="utf-8")
    yield file


def play(text: str, directory: Path, *arguments: str, port: int = 9) -> CompletedProcess[str]:
    with written(text, directory, port) as file:
        return run("chaos", "--config", str(file), *arguments, directory=directory)


def found(done: CompletedProcess[str]) -> Any:
    assert done.stderr == ""
    return json.loads(done.stdout)


def rows(report: Any, *fields: str) -> list[Sequence[Any]]:
    return [tuple(case[field] for field in fields) for case in report["cases"]]


def test_two_deployments_survive_whatever_happens_to_one(tmp_path: Path, canary: Canary) -> None:
    done = play(PAIR, tmp_path, "--json", *FEW, port=canary.port)

    report = found(done)
    assert done.returncode == report["exit_status"] == 0
    assert canary.connections == 0
    survived = {row for row in rows(report, "fault", "at", "verdict", "answered_by") if row[0] == "refused"}
    assert survived == {
        ("refused", "one/a", "ok", "two/b"),
        ("refused", "two/b", "ok", "one/a"),
        ("refused", "all", "honest", None),
    }
    assert {row for row in rows(report, "fault", "verdict", "code") if row[0] == "stall"} == {
        ("stall", "honest", "upstream_stream_stalled")
    }
    assert all(case["touched"] for case in report["cases"])
    assert report["warnings"] == []


@pytest.mark.parametrize("part", range(4))
def test_every_fault_leaves_a_pair_with_an_answer_or_an_honest_error(tmp_path: Path, canary: Canary, part: int) -> None:
    names = [fault.name for fault in faults()][part::4]
    chosen = [word for name in names for word in ("--fault", name)]

    done = play(PAIR, tmp_path, "--json", "--patience", "0.4", *chosen, port=canary.port)

    report = found(done)
    failures = ("lost", "avoidable", "dishonest", "not_asked")
    assert [report["summary"][word] for word in failures] == [0] * 4
    assert {case["fault"] for case in report["cases"] if case["verdict"] == "remark"} <= {"garbage-inside"}
    assert done.returncode == 0
    assert canary.connections == 0
    assert all(case["verdict"] == "ok" for case in report["cases"] if case["survivable"])
    assert {case["fault"] for case in report["cases"]} == set(names)


def test_the_json_of_a_case_has_these_fields(tmp_path: Path) -> None:
    done = play(PAIR, tmp_path, "--json", "--fault", "rate-limit", "--alias", "talk")

    case = next(case for case in found(done)["cases"] if case["at"] == "all" and case["form"] == "chat")
    milliseconds = case.pop("milliseconds")
    assert case == {
        "alias": "talk",
        "form": "chat",
        "fault": "rate-limit",
        "row": "F12",
        "title": "429 with Retry-After: 7",
        "at": "all",
        "broken": ["one/a", "two/b"],
        "failing": [],
        "survivable": False,
        "touched": True,
        "verdict": "honest",
        "status": 429,
        "code": "upstream_rate_limited",
        "reason": None,
        "answered_by": None,
        "attempts": 2,
        "asked": ["one/a", "two/b"],
        "retry_after": "7",
    }
    assert 0 < milliseconds < 1000


def test_an_alias_with_one_deployment_is_a_warning_and_fails_only_when_strict(tmp_path: Path) -> None:
    mild, strict = play(LONE, tmp_path, *FEW), play(LONE, tmp_path, *FEW, "--strict")

    assert (mild.returncode, strict.returncode) == (0, 1)
    assert "warning: alone: one/a is its only deployment" in mild.stdout.splitlines()
    assert "alone · chat" in mild.stdout.splitlines()


def test_a_provider_of_another_wire_is_stood_in_for_and_the_output_says_so(tmp_path: Path) -> None:
    text = "providers: {anthropic: {api_key: '${ANTHROPIC_API_KEY}'}, openai: {api_key: '${OPENAI_API_KEY}'}}"

    done = play(text, tmp_path, "--json", "--fault", "server-error", "--alias", "small", "--alias", "image")

    report = found(done)
    assert done.returncode == 0
    assert "anthropic: stood in for over the OpenAI wire, which is not the one they speak" in report["notes"]
    assert {form for (form,) in rows(report, "form")} == {"chat", "stream", "images"}
    small = [row for row in rows(report, "alias", "at", "answered_by") if row[0] == "small"]
    assert any(at.startswith("anthropic/") and by.startswith("openai/") for _, at, by in small if by)


def test_the_shipped_configuration_holds_with_every_provider(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "gateway.yaml").read_text(encoding="utf-8")

    done = play(text, tmp_path, "--json", "--every-provider", "--fault", "reset")

    report = found(done)
    assert done.returncode == 0
    assert {alias for (alias,) in rows(report, "alias")} == {"small", "medium", "large", "embedding", "image"}
    assert [warning["alias"] for warning in report["warnings"]] == ["embedding"]


@pytest.mark.parametrize("strategy", ["weighted", "least_busy", "lowest_latency"])
def test_each_deployment_fails_first_whatever_the_strategy_and_the_output_says_so(
    tmp_path: Path, strategy: str
) -> None:
    # By weight the second would be asked once in a million times.
    weights = "{provider: one, model: a, weight: 1000}, {provider: two, model: b, weight: 0.001}"
    text = PAIR.replace("{deployments: [one/a, two/b]}", f"{{strategy: {strategy}, deployments: [{weights}]}}")
    text += "failover: {retry_budget: 0}\n"

    done = play(text, tmp_path, "--json", "--fault", "server-error")

    report = found(done)
    assert done.returncode == 0
    firsts = {(case["at"], case["asked"][0], case["verdict"]) for case in report["cases"]}
    assert firsts == {("one/a", "one/a", "ok"), ("two/b", "two/b", "ok"), ("all", "one/a", "honest")}
    assert any("every case is played with the strategy priority" in note for note in report["notes"])
    assert any(f"(talk: {strategy}) is its own matter" in note for note in report["notes"])


def test_what_is_named_for_long_or_filtered_requests_is_tried_and_fails_in_its_turn(tmp_path: Path) -> None:
    named = "{deployments: [one/a], context_fallbacks: [two/b], content_filter_fallbacks: [two/b]}"
    text = PAIR.replace("{deployments: [one/a, two/b]}", named)

    done = play(text, tmp_path, "--json", "--fault", "context-too-long", "--fault", "content-filter")

    report = found(done)
    assert done.returncode == 0
    seen = {row[1:] for row in rows(report, "form", "fault", "at", "verdict", "code", "answered_by")}
    assert seen == {
        ("context-too-long", "one/a", "ok", None, "two/b"),
        ("context-too-long", "two/b as fallback", "honest", "context_length_exceeded", None),
        ("content-filter", "one/a", "ok", None, "two/b"),
        ("content-filter", "two/b as fallback", "honest", "content_filter", None),
    }
    assert {case["form"] for case in report["cases"]} == {"chat", "stream"}


def test_a_deployment_that_is_named_twice_is_told_in_words_that_fit(tmp_path: Path) -> None:
    done = play(LONE.replace("[one/a]", "[one/a, one/a]"), tmp_path, "--fault", "server-error")

    assert "warning: alone: one/a is its only deployment, though named 2 times" in done.stdout.splitlines()


def test_broken_json_that_may_pass_is_a_remark_and_no_failure(tmp_path: Path) -> None:
    done = play(PAIR, tmp_path, "--fault", "garbage-late", "--fault", "garbage-inside")

    assert done.returncode == 0
    remarks = [line for line in done.stdout.splitlines() if line.startswith("remark: ")]
    assert remarks == ["remark: garbage-inside, 3 times: what stands between braces is relayed unread (F40)"]


def test_what_is_beyond_the_limit_is_left_out_and_told(tmp_path: Path) -> None:
    done = play(LONE, tmp_path, "--fault", "empty", "--fault", "html", "--limit", "3")

    assert done.returncode == 0
    assert "warning: 1 cases beyond the limit were left out" in done.stdout.splitlines()


def test_a_refused_configuration_is_told_as_by_check(tmp_path: Path) -> None:
    text = LONE.replace("one/a", "nobody/a")

    done, checked = play(text, tmp_path), run("check", str(tmp_path / "gateway.yaml"), directory=tmp_path)

    assert done.returncode == checked.returncode == 78
    assert done.stderr == checked.stderr
    assert done.stdout == ""


def test_a_configuration_that_serves_nothing_proves_nothing(tmp_path: Path) -> None:
    done = play("providers: {openai: {api_key: ''}}", tmp_path)

    assert done.returncode == 1
    assert "nothing was tried" in done.stderr


def test_the_log_is_kept_where_it_is_wanted(tmp_path: Path) -> None:
    log = tmp_path / "chaos.log"

    done = play(LONE, tmp_path, "--fault", "server-error", "--log", str(log))

    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert done.returncode == 0
    assert {event["status"] for event in events if event["event"] == "request"} == {502}
