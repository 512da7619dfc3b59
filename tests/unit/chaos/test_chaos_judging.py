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

BY_NAME = {fault.name: fault for fault in faults()}
FAULT = BY_NAME["server-error"]
PATIENCE = 1.0
GOOD = b"".join(events_of(Asked("stream", "one/a")))
PIECES = list(events_of(Asked("stream", "one/a")))
ERROR = {"message": "No.", "type": "server_error", "param": None, "code": "upstream_error"}


def case(form: Form, *, survivable: bool = False, fault: str = "server-error") -> Case:
    return Case("small", form, BY_NAME[fault], "one/a", frozenset({"one/a"}), survivable, ("one/a", "two/b"), 2)


def plain(status: int, body: Any, content_type: str = JSON, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"Content-Type": content_type, **told}, content, 0.01)


def refused(status: int, code: str | None, **headers: str) -> Answer:
    return plain(status, {"error": {**ERROR, "code": code}}, **headers)


def streamed(body: bytes) -> Answer:
    return Answer(200, {"Content-Type": f"{EVENTS}; charset=utf-8"}, body, 0.01)


@pytest.mark.parametrize("form", ["chat", "embeddings", "images"])
def test_a_whole_plain_answer_is_ok(form: Form) -> None:
    answer = plain(200, body_of(Asked(form, "two/b")))

    assert judge(case(form), answer, PATIENCE) == Verdict("ok")


def test_a_whole_stream_is_ok() -> None:
    assert judge(case("stream"), streamed(b": hello\n\n" + GOOD), PATIENCE) == Verdict("ok")


@pytest.mark.parametrize(("survivable", "word"), [(False, "honest"), (True, "avoidable")])
def test_a_proper_error_is_honest_unless_another_could_have_answered(survivable: bool, word: Word) -> None:
    answer = plain(502, {"error": ERROR})

    assert judge(case("chat", survivable=survivable), answer, PATIENCE) == Verdict(word, "upstream_error")


def test_a_stream_that_ends_with_an_error_event_is_honest() -> None:
    answer = streamed(PIECES[0] + PIECES[1] + event({"error": ERROR}))

    assert judge(case("stream", fault="error-late"), answer, PATIENCE) == Verdict("honest", "upstream_error")


def test_an_error_within_a_stream_that_had_not_begun_is_dishonest() -> None:
    answer = streamed(event({"error": ERROR}))

    assert judge(case("stream"), answer, PATIENCE).word == "dishonest"


def test_a_good_answer_that_comes_too_late_is_not_ok() -> None:
    answer = replace(plain(200, body_of(Asked("chat", "two/b")), x_gateway_attempts="2"), seconds=9.0)

    verdict = judge(case("chat"), answer, PATIENCE)

    assert verdict == Verdict("dishonest", reason="after 9.0 s, where 2 attempts may take 3 s")


@pytest.mark.parametrize("answer", [plain(200, body_of(Asked("chat", "two/b"))), refused(502, "upstream_error")])
def test_nothing_is_ok_or_honest_when_nobody_of_the_broken_was_asked(answer: Answer) -> None:
    verdict = judge(case("chat"), answer, PATIENCE, touched=False)

    assert (verdict.word, verdict.reason) == ("not asked", "it was the turn of one/a, never asked")


def test_what_the_product_says_it_relays_unread_is_a_remark() -> None:
    answer = streamed(b"".join([*PIECES[:2], b"data: {oops}\n\n", *PIECES[2:]]))

    verdict = judge(case("stream", fault="garbage-inside"), answer, PATIENCE)

    assert verdict == Verdict("remark", reason="what stands between braces is relayed unread (F40)")


@pytest.mark.parametrize("fault", ["garbage-late", "error-late"])
def test_what_it_does_not_say_of_other_faults_is_lost(fault: str) -> None:
    answer = streamed(b"".join([*PIECES[:2], b"data: {oops}\n\n", *PIECES[2:]]))

    assert judge(case("stream", fault=fault), answer, PATIENCE).word == "lost"


def test_other_broken_events_are_lost_even_there() -> None:
    answer = streamed(b"".join([*PIECES[:2], b"data: {other}\n\n", *PIECES[2:]]))

    assert judge(case("stream", fault="garbage-inside"), answer, PATIENCE).word == "lost"


def test_a_broken_event_that_is_noticed_is_told_honestly() -> None:
    answer = streamed(PIECES[0] + PIECES[1] + event({"error": {**ERROR, "code": "bad_event"}}))

    assert judge(case("stream", fault="garbage-inside"), answer, PATIENCE) == Verdict("honest", "bad_event")


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

    verdict = judge(case(form), answer, PATIENCE)  # type: ignore[arg-type]  # a Form

    assert verdict.word == "lost"
    assert verdict.reason


def report_of(
    *verdicts: Verdict, weak: dict[str, str] | None = None, left_out: int = 0, is_limit_wanted: bool = False
) -> Report:
    results = [
        Result(case("chat"), verdict, 200, "two/b", 2, None, 0.0123, ("one/a", "two/b"), touched=True)
        for verdict in verdicts
    ]
    return Report("gateway.yaml", 1.0, results, left_out, is_limit_wanted, ("a note",), weak or {}, 0.5)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ((Verdict("ok"), Verdict("honest", "x")), 0),
        ((Verdict("ok"), Verdict("avoidable", "x")), 1),
        ((Verdict("remark", reason="x"),), 0),
        ((Verdict("ok"), Verdict("dishonest", "x")), 1),
        ((Verdict("ok"), Verdict("not asked")), 1),
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
    report = report_of(Verdict("lost", reason="half an answer"), left_out=7, is_limit_wanted=True)

    lines = list(report.lines())

    assert "lost: small · chat · server-error at one/a: 200 after 12 ms: half an answer" in lines
    assert "warning: 7 cases beyond the limit were left out" in lines
    assert lines[-1] == "0 ok, 0 honest, 0 remark, 0 avoidable, 0 dishonest, 0 not asked, 1 lost in 0.5 s"


def test_a_run_that_leaves_cases_out_holds_only_if_somebody_wanted_the_limit() -> None:
    wanted, cut = (report_of(Verdict("ok"), left_out=7, is_limit_wanted=wanted) for wanted in (True, False))

    assert (wanted.exit_status(), cut.exit_status()) == (0, 1)
    assert "not tried: 7 cases beyond the limit were left out; see --limit and --alias" in list(cut.lines())


def test_a_case_whose_broken_deployment_was_never_asked_says_so() -> None:
    report = report_of(Verdict("not asked", reason="it was the turn of one/a, never asked"))

    lines = list(report.lines())

    assert any("not asked: 200 after" in line for line in lines)
    assert lines[-2].endswith("it was the turn of one/a, never asked")
    assert report.as_json()["summary"]["not_asked"] == 1
    assert report.as_json()["cases"][0]["verdict"] == "not_asked"


def test_remarks_are_told_once_for_each_fault() -> None:
    lines = list(report_of(Verdict("remark", reason="x"), Verdict("remark", reason="x"), Verdict("ok")).lines())

    assert [line for line in lines if line.startswith("remark")] == ["remark: server-error, 2 times: x"]


def test_json_has_every_case_with_what_was_seen() -> None:
    found = report_of(Verdict("ok"), Verdict("honest", "upstream_error")).as_json()

    assert found["summary"] == {
        "cases": 2,
        "left_out": 0,
        "ok": 1,
        "honest": 1,
        "remark": 0,
        "avoidable": 0,
        "dishonest": 0,
        "not_asked": 0,
        "lost": 0,
        "seconds": 0.5,
    }
    assert found["cases"][0]["answered_by"] == "two/b"
    assert found["cases"][0]["milliseconds"] == 12.3
    assert found["cases"][1]["answered_by"] is None
