"""Every answer of an upstream that is no success becomes the error that its caller can act on."""

from __future__ import annotations

import email.utils
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.errors import REQUEST_EXCEEDS_RATE_LIMIT, GatewayError, UpstreamError
from gateway.providers.classify import classify, classify_object, retry_after, scrub
from tests.support.upstream import make_error

NOW = 1_700_000_000.0
KEY = "plainword1234"  # has no form by which a key could be guessed


def answer(status: int, *, headers: dict[str, str] | None = None, **fields: Any) -> GatewayError:
    return classify(status, headers or {}, json.dumps(make_error(status, **fields)).encode(), [KEY])


STATUSES = [
    # status, the error object's fields → class, status for the caller, code for the caller
    (400, {}, errors.UpstreamRejected, 400, None),
    (400, {"code": "invalid_type"}, errors.UpstreamRejected, 400, "invalid_type"),
    (400, {"code": "context_length_exceeded"}, errors.ContextLengthExceeded, 400, "context_length_exceeded"),
    (400, {"kind": "exceed_context_size_error"}, errors.ContextLengthExceeded, 400, "context_length_exceeded"),
    (400, {"code": "content_filter"}, errors.UpstreamRejected, 400, "content_filter"),
    (401, {"code": "invalid_api_key"}, errors.UpstreamAuthFailed, 502, "upstream_auth_failed"),
    (402, {"message": "Insufficient Balance"}, errors.UpstreamRateLimited, 429, "insufficient_quota"),
    (403, {}, errors.UpstreamAuthFailed, 502, "upstream_forbidden"),
    (404, {"code": "model_not_found"}, errors.UpstreamModelMissing, 502, "upstream_model_not_found"),
    (404, {"message": "model 'x' not found"}, errors.UpstreamModelMissing, 502, "upstream_model_not_found"),
    (404, {"message": "Not Found"}, errors.UpstreamProtocolError, 502, "upstream_protocol_error"),
    (408, {}, errors.UpstreamTimeout, 504, "upstream_timeout"),
    (409, {}, errors.UpstreamUnavailable, 502, "upstream_error"),
    (413, {}, errors.UpstreamRejected, 413, "request_too_large"),
    (413, {"code": "context_length_exceeded"}, errors.ContextLengthExceeded, 400, "context_length_exceeded"),
    (422, {"code": "bad_schema"}, errors.UpstreamRejected, 422, "bad_schema"),
    (425, {}, errors.UpstreamUnavailable, 502, "upstream_error"),
    (429, {}, errors.UpstreamRateLimited, 429, "upstream_rate_limited"),
    (429, {"code": "rate_limit_exceeded"}, errors.UpstreamRateLimited, 429, "upstream_rate_limited"),
    (429, {"code": "insufficient_quota"}, errors.UpstreamRateLimited, 429, "insufficient_quota"),
    (429, {"kind": "insufficient_quota"}, errors.UpstreamRateLimited, 429, "insufficient_quota"),
    (451, {}, errors.UpstreamRejected, 451, None),
    (500, {}, errors.UpstreamUnavailable, 502, "upstream_error"),
    (502, {}, errors.UpstreamUnavailable, 502, "upstream_error"),
    (503, {}, errors.UpstreamOverloaded, 503, "server_is_overloaded"),
    (504, {}, errors.UpstreamTimeout, 504, "upstream_timeout"),
    (520, {}, errors.UpstreamUnavailable, 502, "upstream_error"),
    (529, {}, errors.UpstreamOverloaded, 503, "server_is_overloaded"),
    *(
        (status, {}, errors.UpstreamProtocolError, 502, "upstream_protocol_error")
        for status in (201, 204, 206, 304, 405, 406, 411, 415, 418, 599, 999)
    ),
]


@pytest.mark.parametrize(("status", "fields", "kind", "told", "code"), STATUSES)
def test_a_status_becomes_its_class_with_the_callers_status_and_code(
    status: int, fields: dict[str, Any], kind: type[GatewayError], told: int, code: str | None
) -> None:
    error = answer(status, **fields)

    assert type(error) is kind
    assert (error.http_status, error.code) == (told, code)
    if isinstance(error, UpstreamError):
        assert error.upstream_status == status


@settings(deadline=None)
@given(st.integers(100, 999), st.binary(max_size=300))
def test_no_answer_at_all_escapes_the_table(status: int, body: bytes) -> None:
    error = classify(status, {}, body)

    assert isinstance(error, UpstreamError | errors.ContextLengthExceeded)
    assert 400 <= error.http_status < 600
    assert error.message


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(), st.lists, max_leaves=5
    )
)
def test_no_kind_of_value_in_an_error_object_breaks_the_table(value: Any) -> None:
    error = classify_object({"message": value, "type": value, "code": value, "param": value})

    assert isinstance(error.message, str)
    assert error.code is None or isinstance(error.code, str)
    assert error.param is None or isinstance(error.param, str)


def test_only_the_request_itself_is_never_tried_elsewhere() -> None:
    kinds = {type(answer(status, **fields)) for status, fields, *_ in STATUSES}

    staying = {kind for kind in kinds if not (issubclass(kind, UpstreamError) and kind.failover)}

    assert staying == {errors.UpstreamRejected, errors.ContextLengthExceeded}


WAITS = [
    ({"retry-after": "2"}, 2.0),
    ({"retry-after": "2.5"}, 2.5),
    ({"retry-after": "0"}, 0.05),
    ({"retry-after": "-7"}, 0.05),
    ({"retry-after": "1e9"}, 60.0),
    ({"retry-after": "inf"}, 60.0),
    ({"retry-after": "nan"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "Fri, 99 Nov 2023 99:99:99 GMT"}, None),
    ({"retry-after": email.utils.formatdate(NOW + 30, usegmt=True)}, 30.0),
    ({"retry-after": email.utils.formatdate(NOW - 30, usegmt=True)}, 0.05),
    ({"retry-after": email.utils.formatdate(NOW + 3000, usegmt=True)}, 60.0),
    ({"retry-after-ms": "1500"}, 1.5),
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ({"retry-after-ms": "later", "retry-after": "9"}, 9.0),
    ({"retry-after-ms": "later"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS)
def test_every_form_of_retry_after_is_understood_and_kept_in_bounds(
    headers: dict[str, str], seconds: float | None
) -> None:
    found = retry_after(headers, now=lambda: NOW)

    assert found == (None if seconds is None else pytest.approx(seconds))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_retry_after_header_raises(value: str) -> None:
    found = retry_after({"retry-after": value, "retry-after-ms": value}, now=lambda: NOW)

    assert found is None or 0.05 <= found <= 60


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_the_wait_that_an_upstream_names_is_kept(status: int) -> None:
    error = answer(status, headers={"retry-after": "2"})

    assert error.retry_after == 2.0


SECRETS = [
    f"Bad key {KEY}!",
    "Incorrect API key provided: sk-proj-abcdefgh12345678.",
    "Authorization: Bearer abc.def.ghi was refused",
    "key gsk_abcdefgh12345678 is over its limit",
    "https://host/v1/models?key=AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "token hf_abcdefghijklmnop1234 is expired",
]


@pytest.mark.parametrize("message", SECRETS)
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_nothing_that_looks_like_a_key_reaches_the_caller(status: int, message: str) -> None:
    told = json.dumps(answer(status, message=message).envelope())

    for piece in (KEY, "abcdefgh", "abc.def.ghi", "AIza"):
        assert piece not in told


ACCOUNTS_AND_PLACES = [
    ("Limit reached in organization org-AbC123secretORG on tokens", "Limit reached in organization org-*** on tokens"),
    ("Project proj_a1B2c3D4e5 has no access.", "Project proj_*** has no access."),
    ("cannot reach 10.1.2.3.", "cannot reach ***."),
    ("http://192.168.0.7:8000/v1 refused", "http://***/v1 refused"),
    ("http://[fd00::12]:8000/v1 refused", "http://***/v1 refused"),
    ("peer fe80::1%eth0 left", "peer *** left"),
    ("::ffff:10.0.0.1 left", "::ffff:*** left"),
    # What only looks a little like it stays.
    ("at 12:30:45, after 1.2.3 and std::vector", "at 12:30:45, after 1.2.3 and std::vector"),
    ("gpt-4.1.2 of org-wide use; Limit: 30000, Used: 9", "gpt-4.1.2 of org-wide use; Limit: 30000, Used: 9"),
]


@pytest.mark.parametrize(("message", "told"), ACCOUNTS_AND_PLACES)
def test_neither_accounts_nor_addresses_reach_the_caller(message: str, told: str) -> None:
    assert answer(429, message=message).message == told


def test_one_request_beyond_the_whole_limit_is_told_apart_from_a_limit_that_is_used_up() -> None:
    message = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 90000."

    error = answer(429, message=message, code="rate_limit_exceeded")

    assert (type(error), error.code) == (errors.UpstreamRateLimited, REQUEST_EXCEEDS_RATE_LIMIT)


def test_our_key_is_taken_out_of_code_and_param_too() -> None:
    error = answer(400, message="x", code=f"bad_{KEY}", param=f"headers.{KEY}")

    assert KEY not in json.dumps(error.envelope())


def test_a_long_message_is_cut() -> None:
    assert len(scrub("x" * 100_000)) == 2_000


def test_a_refused_key_of_ours_is_never_shown_as_the_callers() -> None:
    error = answer(401, message="Incorrect API key provided: abc", code="invalid_api_key")

    assert "Incorrect API key" not in error.message
    assert error.type == "server_error"


def test_a_page_of_html_is_never_echoed() -> None:
    error = classify(502, {}, b"<html><h1>secret internals</h1></html>")

    assert "internals" not in error.message


def test_llama_cpps_refusal_of_a_long_request_is_said_in_openais_words() -> None:
    reported = {
        "code": 400,
        "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5000,
        "n_ctx": 2048,
    }

    error = classify(400, {}, json.dumps({"error": reported}).encode())

    assert isinstance(error, errors.ContextLengthExceeded)
    assert error.code == "context_length_exceeded"
    assert error.message == (
        "This model's maximum context length is 2048 tokens. However, your messages resulted in 5000 tokens. "
        "Please reduce the length of the messages."
    )


def test_a_number_as_code_becomes_text_or_nothing() -> None:
    told = classify_object({"message": "x", "code": 1234}, 400)
    same_as_status = classify_object({"message": "x", "code": 400}, 400)

    assert told.code == "1234"
    assert same_as_status.code is None


BODIES = [
    (b'{"error": "just text"}', "just text"),
    (b'{"message": "bare"}', "bare"),
    (b'{"error": {"message": {"deep": 1}}}', '{"deep":1}'),
    (b'{"error": null}', "no reason given"),
    (b'{"detail": "not this"}', "no reason given"),
    (b"[1]", "no reason given"),
    (b"", "no reason given"),
    (b"\xff", "no reason given"),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
def test_error_bodies_of_every_form_are_read(body: bytes, message: str) -> None:
    assert classify(400, {}, body).message == message


INSIDE_STREAMS = [
    ({"code": "rate_limit_exceeded"}, errors.UpstreamRateLimited),
    ({"code": "429"}, errors.UpstreamRateLimited),
    ({"code": 429}, errors.UpstreamRateLimited),
    ({"type": "overloaded_error"}, errors.UpstreamOverloaded),
    ({"code": "context_length_exceeded"}, errors.ContextLengthExceeded),
    ({"code": 400, "type": "exceed_context_size_error"}, errors.ContextLengthExceeded),
    ({"type": "invalid_request_error"}, errors.UpstreamRejected),
    ({"type": "authentication_error"}, errors.UpstreamAuthFailed),
    ({"code": 200}, errors.UpstreamUnavailable),
    ({"code": "new_word"}, errors.UpstreamUnavailable),
    ({}, errors.UpstreamUnavailable),
]


@pytest.mark.parametrize(("reported", "kind"), INSIDE_STREAMS)
def test_an_error_without_a_status_is_told_by_its_words(reported: dict[str, Any], kind: type[GatewayError]) -> None:
    assert type(classify_object({"message": "x", **reported})) is kind
