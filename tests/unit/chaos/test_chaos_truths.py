"""What is true of each fault: the statuses, codes and waits that a caller may be told, and how soon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.chaos.cases import Case
from gateway.chaos.faults import faults
from gateway.chaos.judging import Answer, Verdict, Word, judge
from gateway.chaos.sound import JSON

BY_NAME = {fault.name: fault for fault in faults()}
PATIENCE = 1.0
Table = dict[str, list[tuple[int, str | None, str]]]


def case(fault: str, *, survivable: bool = False) -> Case:
    return Case("small", "chat", BY_NAME[fault], "one/a", frozenset({"one/a"}), survivable, ("one/a", "two/b"), 2)


def refused(status: int, code: str | None, headers: Mapping[str, str]) -> Answer:
    error = {"message": "No.", "type": "server_error", "param": None, "code": code}
    return Answer(status, {"Content-Type": JSON, **headers}, json.dumps({"error": error}).encode(), 0.01)


# Each fault with errors that are true of it: status, code and Retry-After.
TRUE: Table = {
    "bad-request": [(400, "chaos_rejected", "")],
    "context-too-long": [(400, "context_length_exceeded", "")],
    "content-filter": [(400, "content_filter", "")],
    "bad-key": [(502, "upstream_auth_failed", ""), (503, "no_healthy_deployment", "300")],
    "forbidden": [(502, "upstream_forbidden", "")],
    "no-model": [(502, "upstream_model_not_found", "")],
    "request-timeout": [(504, "upstream_timeout", "")],
    "rate-limit": [(429, "upstream_rate_limited", "7"), (429, "upstream_rate_limited", "1")],
    "quota": [(429, "insufficient_quota", "600")],
    "unavailable": [(503, "server_is_overloaded", "1"), (503, "no_healthy_deployment", "1")],
    "refused": [(502, "upstream_unreachable", "")],
    "black-hole": [(504, "upstream_timeout", "")],
    "truncated": [(502, "upstream_truncated", "")],
}
# Each with errors that are not.
UNTRUE: Table = {
    "bad-request": [(502, "upstream_error", ""), (400, "invalid_value", ""), (503, "no_healthy_deployment", "1")],
    "context-too-long": [(400, None, ""), (413, "context_length_exceeded", "")],
    "content-filter": [(502, "content_filter", "")],
    "bad-key": [(401, "invalid_api_key", ""), (401, "upstream_auth_failed", ""), (403, "upstream_forbidden", "")],
    "forbidden": [(403, "forbidden", ""), (401, "invalid_api_key", "")],
    "no-model": [(404, "model_not_found", "")],
    "request-timeout": [(408, "request_timeout", ""), (502, "upstream_error", "")],
    "rate-limit": [
        (418, "upstream_rate_limited", ""),
        (429, "upstream_rate_limited", ""),
        (429, "upstream_rate_limited", "8"),
        (429, "upstream_rate_limited", "0"),
        (429, "upstream_rate_limited", "-1"),
        (429, "upstream_rate_limited", "soon"),
        (429, "upstream_rate_limited", "²"),
        (429, "rate_limit_exceeded", "7"),
    ],
    "quota": [(429, "upstream_rate_limited", "7"), (402, "insufficient_quota", "7")],
    "server-error": [(400, "upstream_error", ""), (502, None, "")],
    "unavailable": [(503, "server_is_overloaded", ""), (503, "no_healthy_deployment", "")],
    "overloaded": [(529, "server_is_overloaded", "1")],
    "redirect": [(307, "upstream_redirect", "")],
    "hang": [(502, "upstream_error", ""), (504, "upstream_stream_stalled", "")],
}


def each(table: Table) -> list[tuple[str, int, str | None, str]]:
    return [(fault, *answer) for fault, answers in table.items() for answer in answers]


def judged(fault: str, status: int, code: str | None, retry_after: str, *, survivable: bool = False) -> Verdict:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return judge(case(fault, survivable=survivable), refused(status, code, headers), PATIENCE)


@pytest.mark.parametrize(("fault", "status", "code", "retry_after"), each(TRUE))
def test_an_error_that_is_true_of_the_fault_is_honest(fault: str, status: int, code: str, retry_after: str) -> None:
    assert judged(fault, status, code, retry_after) == Verdict("honest", code)


@pytest.mark.parametrize(("fault", "status", "code", "retry_after"), each(UNTRUE))
@pytest.mark.parametrize("survivable", [False, True])
def test_an_error_that_is_not_true_of_the_fault_is_dishonest(
    fault: str, status: int, code: str, retry_after: str, survivable: bool
) -> None:
    verdict = judged(fault, status, code, retry_after, survivable=survivable)

    assert (verdict.word, verdict.code) == ("dishonest", code)
    assert f"{status} {code} with" in verdict.reason
    assert "would be true" in verdict.reason


@pytest.mark.parametrize(
    ("fault", "attempts", "seconds", "word"),
    [
        ("server-error", 1, 1.9, "honest"),
        ("server-error", 1, 2.1, "dishonest"),
        ("server-error", 2, 2.9, "honest"),
        ("server-error", 2, 3.1, "dishonest"),
        ("server-error", 0, 1.1, "dishonest"),
        ("server-error", 2, 999.0, "dishonest"),
        ("drip", 1, 2.9, "honest"),  # what drips is ended by the patience with a whole answer, which is twice as long
        ("drip", 1, 3.1, "dishonest"),
    ],
)
def test_an_error_has_the_patience_of_the_attempts_made_and_a_second(
    fault: str, attempts: int, seconds: float, word: Word
) -> None:
    status, code = (504, "upstream_timeout") if fault == "drip" else (502, "upstream_error")
    told = refused(status, code, {"x-gateway-attempts": str(attempts)})

    verdict = judge(case(fault), replace(told, seconds=seconds), PATIENCE)

    assert verdict.word == word
