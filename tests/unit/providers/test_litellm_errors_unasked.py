"""Whose fault it is when litellm gave up before it asked anybody: the request's, or that of our own settings."""

from __future__ import annotations

import json
import socket

import aiohttp
import pytest
from pydantic import SecretStr

from gateway.call import Endpoint
from gateway.errors import (
    EndpointNotServed,
    GatewayError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from gateway.providers.litellm_errors import explain
from gateway.providers.litellm_line import Line
from tests.support.exchanges import make_exchange

SECRET = "canary-0123456789"
OWN = "The request cannot be put into the words of this upstream. Look at the form of "
ANYWHERE = OWN + "'messages', 'tools' and 'response_format'."


class Wrapped(Exception):
    """Looks like litellm's wrapping of anything that it did not foresee."""

    def __init__(self, message: str, status: int | None = 500) -> None:
        super().__init__(message)
        self.message = f"litellm.APIConnectionError: {message}"
        self.status_code = status


def raised(cause: BaseException, status: int | None = 500) -> BaseException:
    """Return what comes out of litellm for `cause`, with what it was raised for."""
    try:
        try:
            raise cause
        except BaseException as first:
            raise Wrapped(f"{first}\nTraceback (most recent call last):\n  File /x.py", status) from first
    except Wrapped as wrapped:
        return wrapped


def told(cause: BaseException, status: int | None = 500, endpoint: Endpoint = "chat/completions") -> GatewayError:
    line = Line(5.0, is_stream=False, begun=lambda: None)
    return explain(raised(cause, status), line, endpoint, [SECRET])


def json_error() -> ValueError:
    try:
        json.loads("{oops")
    except ValueError as error:
        return error
    raise AssertionError


SLIPS: list[BaseException] = [
    KeyError("function"),
    TypeError("argument of type 'NoneType' is not iterable"),
    AttributeError("'str' object has no attribute 'get'"),
    IndexError("list index out of range"),
    RecursionError("maximum recursion depth exceeded"),
    AssertionError(),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    json_error(),
    ValueError("not enough values to unpack (expected 2, got 1)"),
    ValueError("dictionary update sequence element #0 has length 1; 2 is required"),
    ValueError("'schema'"),
]


@pytest.mark.parametrize("status", [500, 400, None])
@pytest.mark.parametrize("slip", SLIPS, ids=repr)
def test_a_form_that_nobody_foresaw_is_the_callers_and_said_in_our_words(
    slip: BaseException, status: int | None
) -> None:
    error = told(slip, status)

    assert isinstance(error, UpstreamRejected)
    assert error.envelope()["error"] == {
        "message": ANYWHERE,
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_value",
    }
    assert error.http_status == 400


SPOKEN = [
    ("Unsupported tool type: foo", "tools"),
    ("Invalid reasoning_effort value 'foo' for Nova 2 models. Supported values: ['low', 'high']", "reasoning_effort"),
    ("Unmapped reasoning effort: 'foo'.", "reasoning_effort"),
    ("Bedrock doesn't support tool_choice=none.", "tool_choice"),
    ("Unsupported image format: svg+xml. Supported formats: ['png', 'jpeg']", "messages"),
    ("No supported extensions for MIME type: a/b. Supported formats: ['pdf', 'csv']", "messages"),
    ("Max depth of 100 exceeded while processing schema.", None),
    ("Unsupported image format: region. Supported formats: ['png']", "messages"),  # the type is the caller's word
    ("Unsupported tool type: api key", "tools"),
    (f"Unsupported tool type: {SECRET}", "tools"),
]


@pytest.mark.parametrize(("sentence", "param"), SPOKEN)
def test_a_sentence_that_is_meant_for_readers_is_passed_on(sentence: str, param: str | None) -> None:
    error = told(ValueError(sentence))

    assert isinstance(error, UpstreamRejected)
    assert (error.message, error.param) == (sentence.replace(SECRET, "***"), param)


UNSPEAKABLE = [
    ("Unable to convert openai tool calls={'role': 'assistant', 'content': 'x'} to gemini tool calls.", "messages"),
    ("litellm.types.Tool() argument after ** must be a mapping", "tools"),
    ("Cannot read message in /usr/lib/python3/x.py", "messages"),
    ("tool_choice " + "x" * 500, "tool_choice"),
]


@pytest.mark.parametrize(("sentence", "param"), UNSPEAKABLE)
def test_a_sentence_with_quotations_paths_or_names_of_software_is_not(sentence: str, param: str) -> None:
    error = told(Exception(sentence))

    assert (type(error), error.message, error.param) == (UpstreamRejected, f"{OWN}'{param}'.", param)


ADVICE = [
    (
        "Anthropic requires at least one non-system message. Either provide one, or set `litellm.modify_params = True` // x",
        "Anthropic requires at least one non-system message.",
    ),
    ("Bad content. To drop this param, set `litellm.drop_params = True` or", "Bad content."),
    ("Bad content. Handle with `litellm.InternalServerError`.", "Bad content."),
]


@pytest.mark.parametrize(("sentence", "kept"), ADVICE)
def test_advice_on_switches_is_not_the_callers(sentence: str, kept: str) -> None:
    error = told(ValueError(sentence), 400)

    assert (type(error), error.message, error.param) == (UpstreamRejected, kept, "messages")


@pytest.mark.parametrize(
    "sentence",
    ["Unable to fetch image from URL. Error: x", "Unsupported image type. Expected either", "Invalid image received"],
)
def test_media_that_cannot_be_read_are_named(sentence: str) -> None:
    error = told(ValueError(sentence))

    assert (type(error), error.param) == (UpstreamRejected, "messages")
    assert "data: URL" in error.message


PLACES: list[tuple[Endpoint, str | None, str]] = [
    ("embeddings", "input", "'input'."),
    ("images/generations", None, "'prompt', 'size' and 'quality'."),
]


@pytest.mark.parametrize(("endpoint", "param", "places"), PLACES)
def test_other_endpoints_have_other_fields_to_look_at(endpoint: Endpoint, param: str | None, places: str) -> None:
    error = told(KeyError("x"), endpoint=endpoint)

    assert (type(error), error.message, error.param) == (UpstreamRejected, OWN + places, param)


def test_an_endpoint_that_a_provider_has_not_is_no_form_of_a_request() -> None:
    error = told(ValueError("Unmapped LLM provider for this endpoint. You passed model=x"), 400, "embeddings")

    assert (type(error), error.message) == (EndpointNotServed, "This model does not serve /v1/embeddings.")


class ProfileNotFound(Exception):
    """Looks like one of the package that reads accounts."""


ProfileNotFound.__module__ = "botocore.exceptions"

OURS: list[tuple[BaseException, int | None, str]] = [
    (ValueError("Missing Gemini API key. Set the GEMINI_API_KEY"), 500, "provider_misconfigured"),
    (Exception("Unable to load vertex credentials from environment."), 500, "provider_misconfigured"),
    (ValueError("Could not resolve project_id"), None, "provider_misconfigured"),
    (ValueError("Vertex project and location are required"), 500, "provider_misconfigured"),
    (ValueError("LLM Provider NOT provided. Pass in"), 400, "provider_misconfigured"),
    (ProfileNotFound("The config profile could not be found"), 500, "provider_misconfigured"),
    (ModuleNotFoundError("No module named 'boto3'", name="boto3"), 500, "provider_not_installed"),
]


@pytest.mark.parametrize(("cause", "status", "code"), OURS)
def test_what_our_settings_lack_is_never_the_callers_fault(cause: BaseException, status: int | None, code: str) -> None:
    error = told(cause, status)

    assert isinstance(error, UpstreamUnavailable)
    assert (error.http_status, error.code, error.failover) == (502, code, True)
    assert "litellm" not in error.message.lower()


OUTSIDE: list[BaseException] = [
    aiohttp.ServerDisconnectedError(),
    ConnectionResetError("reset"),
    socket.gaierror("no such host"),
    FileNotFoundError("credentials.json"),
]


@pytest.mark.parametrize("cause", OUTSIDE, ids=repr)
def test_what_failed_outside_is_never_the_callers_fault(cause: BaseException) -> None:
    error = told(cause)

    assert isinstance(error, UpstreamError)
    assert (error.http_status, error.failover) == (502, True)


UNSET: list[tuple[str, dict[str, str]]] = [
    ("bedrock", {"aws_region_name": "us-east-1", "aws_profile_name": "absent"}),
    ("vertex_ai", {"vertex_project": "p", "vertex_location": "l", "vertex_credentials": "/absent.json"}),
]


@pytest.mark.parametrize(("prefix", "options"), UNSET)
async def test_litellm_without_an_account_is_the_operators(
    prefix: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    secrets = {name: SecretStr(value) for name, value in options.items()}
    nowhere = "http://127.0.0.1:9"
    lane = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix=prefix, base_url=nowhere, options=secrets))

    with pytest.raises(UpstreamUnavailable) as caught:
        await lane.send(
            make_exchange(model="us.amazon.nova-2-lite-v1:0" if prefix == "bedrock" else "gemini-2.5-flash")
        )

    await lane.close()
    assert caught.value.code == "provider_misconfigured"


def test_an_answer_that_came_is_not_a_question_that_could_not_be_put() -> None:
    line = Line(5.0, is_stream=False, begun=lambda: None)
    line.status = 200

    error = explain(raised(KeyError("choices")), line, "chat/completions", [])

    assert type(error) is UpstreamProtocolError
