"""What litellm raises when nothing was seen of an upstream's answer."""

from __future__ import annotations

import ssl

import aiohttp
import orjson
import pytest

from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from gateway.providers.litellm_errors import explain, explain_break, explain_line
from gateway.providers.litellm_line import AnswerTooLarge, Line

SECRET = "canary-0123456789"


class Raised(Exception):
    """Looks like one of litellm's."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status


def make_line(*, is_stream: bool = False) -> Line:
    return Line(5.0, is_stream=is_stream, begun=lambda: None)


WRAPPED = [
    ("litellm.BadRequestError: AnthropicException - {'no json", "{'no json"),
    ('litellm.BadRequestError: VertexAIException BadRequestError - {"error": {"message": "Bad"}}', "Bad"),
    ('litellm.BadRequestError: AnthropicException - b\'{"type": "error", "error": {"message": "Bad"}}\'', "Bad"),
    ("litellm.BadRequestError: AnthropicException - b'\\xZZ'", "b'\\xZZ'"),
    ('litellm.BadRequestError: GeminiException - [{"error": {"message": "Bad"}}]', "Bad"),
    ("Bad\nTraceback (most recent call last):\n  File ...", "Bad"),
    ("Bad. To drop unsupported params, set `litellm.drop_params = True`.", "Bad."),
    ("Bad Received Messages=[{'role': 'user'}]", "Bad"),
    (f"Bad {SECRET}", "Bad ***"),
]


@pytest.mark.parametrize(("message", "sentence"), WRAPPED)
def test_the_callers_sentence_is_the_upstreams_own(message: str, sentence: str) -> None:
    told = explain(Raised(message, 400), make_line(), "chat/completions", [SECRET])

    assert isinstance(told, UpstreamRejected)
    assert told.message == sentence


REFUSED: list[tuple[int | None, str, type[GatewayError]]] = [
    (400, "This model's maximum context length is 8 tokens", ContextLengthExceeded),
    (401, "Missing key", UpstreamAuthFailed),
    (408, "Timed out", UpstreamTimeout),
    (429, "Slow down", UpstreamRateLimited),
    (500, "KeyError: 'x'", UpstreamRejected),
    (None, "KeyError: 'x'", UpstreamRejected),
    (503, "Busy", UpstreamProtocolError),
]


@pytest.mark.parametrize(("status", "message", "expected"), REFUSED)
def test_what_litellm_refuses_by_itself_has_an_error_too(
    status: int | None, message: str, expected: type[GatewayError]
) -> None:
    assert type(explain(Raised(message, status), make_line(), "chat/completions", [])) is expected


def test_an_answer_that_litellm_cannot_read_is_the_upstreams_fault() -> None:
    line = make_line()
    line.status = 200

    told = explain(KeyError("choices"), line, "chat/completions", [])

    assert isinstance(told, UpstreamProtocolError)
    assert told.code == "upstream_bad_response"


def test_a_stream_that_litellm_cannot_read_is_interrupted() -> None:
    told = explain_break(ValueError("no JSON"), make_line(is_stream=True), [])

    assert isinstance(told, UpstreamUnavailable)
    assert told.code == "upstream_stream_interrupted"


LINES: list[tuple[BaseException, type[UpstreamError], str]] = [
    (aiohttp.ConnectionTimeoutError(), UpstreamTimeout, "upstream_timeout"),
    (AnswerTooLarge(), UpstreamTooLarge, "upstream_reply_too_large"),
    (aiohttp.ClientPayloadError(), UpstreamUnavailable, "upstream_truncated"),
    (aiohttp.ServerDisconnectedError(), UpstreamUnavailable, "upstream_error"),
    (ConnectionResetError(), UpstreamUnavailable, "upstream_error"),
]


@pytest.mark.parametrize(("error", "expected", "code"), LINES)
def test_every_broken_connection_has_its_error(error: BaseException, expected: type[UpstreamError], code: str) -> None:
    told = explain_line(error)

    assert (type(told), told.code) == (expected, code)


def test_a_connection_that_is_not_trusted_is_named() -> None:
    key = aiohttp.client_reqrep.ConnectionKey(
        host="host", port=443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )

    told = explain_line(aiohttp.ClientConnectorSSLError(key, ssl.SSLError("bad")))

    assert told.code == "upstream_tls_error"


@pytest.mark.parametrize(
    "quoted", ["API_KEY_INVALID", "API key not valid", "API key expired", "Your credit balance is too low"]
)
def test_what_a_refusal_quotes_of_the_request_is_never_taken_for_our_accounts_fault(quoted: str) -> None:
    """Otherwise one caller could make a deployment rest for all."""
    sentence = f"Invalid value: {quoted}"
    unasked, answered = make_line(), make_line()
    answered.status, answered.refusal = 400, orjson.dumps({"error": {"message": sentence}})

    by_itself = explain(Raised(quoted, 400), unasked, "chat/completions", [])
    by_upstream = explain(Raised("x", 400), answered, "chat/completions", [])

    assert (type(by_itself), type(by_upstream)) == (UpstreamRejected, UpstreamRejected)
