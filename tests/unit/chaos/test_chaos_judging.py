"""Verdicts on answers, good, bad and misleading, and what a report makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.chaos.cases import Case
from gateway.chaos.driving import Result
from gateway.chaos.faults import faults
from gateway.chaos.judging import Answer, Verdict, Word, judge
from gateway.chaos.report import Report
from gateway.chaos.sound import DONE, EVENTS, JSON, Asked, Form, body_of, event, events_of

FAULT = faults()[0]
GOOD = b"".join(events_of(Asked("stream", "one/a")))
PIECES = list(events_of(Asked("stream", "one/a")))
ERROR = {"message": "No.", "type": "server_error", "param": None, "code": "upstream_error"}


def case(form: Form, *, survivable: bool = False) -> Case:
    return Case("small", form, FAULT, "one/a", frozenset({"one/a"}), survivable, ("one/a", "two/b"))


def plain(status: int, body: Any, content_type: str = JSON) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"Content-Type": content_type}, content, 0.01)


def streamed(body: bytes) -> Answer:
    return Answer(200, {"Content-Type": f"{EVENTS}; charset=utf-8"}, body, 0.01)


@pytest.mark.parametrize("form", ["chat", "embeddings", "images"])
def test_a_whole_plain_answer_is_ok(form: Form) -> None:
    answer = plain(200, body_of(Asked(form, "two/b")))

    assert judge(case(form), answer) == Verdict("ok")


def test_a_whole_stream_is_ok() -> None:
    assert judge(case("stream"), streamed(b": hello\n\n" + GOOD)) == Verdict("ok")


@pytest.mark.parametrize(("survivable", "word"), [(False, "honest"), (True, "avoidable")])
def test_a_proper_error_is_honest_unless_another_could_have_answered(survivable: bool, word: Word) -> None:
    answer = plain(502, {"error": ERROR})

    assert judge(case("chat", survivable=survivable), answer) == Verdict(word, "upstream_error")


def test_a_stream_that_ends_with_an_error_event_is_honest() -> None:
    answer = streamed(PIECES[0] + PIECES[1] + event({"error": ERROR}))

    assert judge(case("stream"), answer) == Verdict("honest", "upstream_error")


LOST = {
    "a defect": ("chat", plain(500, {"error": {**ERROR, "code": "internal_error"}})),
    "HTML": ("chat", plain(502, b"<html>", "text/html")),
    "half JSON": ("chat", plain(200, b'{"choices": [')),
    "a list": ("chat", plain(200, [])),
    "nothing in it": ("chat", plain(200, {"choices": []})),
    "no vectors' model": ("embeddings", plain(200, {"data": []})),
    "no image": ("images", plain(200, {"data": []})),
    "another's words": ("chat", plain(200, body_of(Asked("chat", "three/c")))),
    "an error without the envelope": ("chat", plain(502, {"detail": "no"})),
    "an error without a type": ("chat", plain(502, {"error": {"message": "no"}})),
    "JSON for a stream": ("stream", plain(200, body_of(Asked("chat", "one/a")))),
    "no [DONE] and no error": ("stream", streamed(b"".join(PIECES[:-1]))),
    "an empty stream": ("stream", streamed(b"")),
    "half an event at the end": ("stream", streamed(PIECES[0] + b'data: {"cho')),
    "an error and [DONE]": ("stream", streamed(PIECES[0] + event({"error": ERROR}) + DONE)),
    "an error that is not the end": ("stream", streamed(event({"error": ERROR}) + PIECES[0])),
    "no JSON before the error": ("stream", streamed(PIECES[0] + b"data: {oops\n\n" + event({"error": ERROR}))),
    "a hole in the text": ("stream", streamed(PIECES[0] + PIECES[2] + PIECES[3] + DONE)),
    "no JSON before [DONE]": ("stream", streamed(PIECES[0] + b"data: {oops\n\n" + DONE)),
    "two deployments' words": ("stream", streamed(PIECES[1] + list(events_of(Asked("stream", "two/b")))[2] + DONE)),
}


@pytest.mark.parametrize("name", LOST)
def test_whatever_an_openai_client_cannot_take_is_lost(name: str) -> None:
    form, answer = LOST[name]

    verdict = judge(case(form), answer)  # type: ignore[arg-type]  # a Form

    assert verdict.word == "lost"
    assert verdict.reason


def report_of(*verdicts: Verdict, weak: dict[str, str] | None = None, left_out: int = 0) -> Report:
    results = [
        Result(case("chat"), verdict, 200, "two/b", 2, None, 0.0123, ("one/a", "two/b"), touched=True)
        for verdict in verdicts
    ]
    return Report("gateway.yaml", 1.0, results, left_out, ("a note",), weak or {}, 0.5)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ((Verdict("ok"), Verdict("honest", "x")), 0),
        ((Verdict("ok"), Verdict("avoidable", "x")), 1),
        ((Verdict("lost", reason="x"),), 1),
        ((), 1),  # nothing was tried, so nothing was proven
    ],
)
def test_the_exit_status_follows_from_the_worst_verdict(verdicts: tuple[Verdict, ...], status: int) -> None:
    assert report_of(*verdicts).exit_status() == status


def test_a_weak_alias_fails_only_a_strict_run() -> None:
    report = report_of(Verdict("ok"), weak={"small": "one/a is its only deployment"})

    assert (report.exit_status(), report.exit_status(strict=True)) == (0, 1)
    assert "warning: small: one/a is its only deployment" in list(report.lines())


def test_the_matrix_says_what_was_seen_and_names_every_failure() -> None:
    lines = list(report_of(Verdict("lost", reason="half an answer"), left_out=7).lines())

    assert "lost: small · chat · bad-request at one/a: 200 half an answer after 12 ms" in lines
    assert "warning: 7 cases beyond the limit were left out" in lines
    assert lines[-1] == "0 ok, 0 honest, 0 avoidable, 1 lost in 0.5 s"


def test_a_case_whose_broken_deployment_was_never_asked_says_so() -> None:
    report = report_of(Verdict("ok"))
    untouched = replace(report, results=[replace(report.results[0], touched=False)])

    assert any(line.endswith("ok, not asked") for line in untouched.lines())


def test_json_has_every_case_with_what_was_seen() -> None:
    found = report_of(Verdict("ok"), Verdict("honest", "upstream_error")).as_json()

    assert found["summary"] == {
        "cases": 2,
        "left_out": 0,
        "ok": 1,
        "honest": 1,
        "avoidable": 0,
        "lost": 0,
        "seconds": 0.5,
    }
    assert found["cases"][0]["answered_by"] == "two/b"
    assert found["cases"][0]["milliseconds"] == 12.3
    assert found["cases"][1]["answered_by"] is None
