"""What upstreams say of an error may be of any size and shape; reading it costs little and never fails."""

from __future__ import annotations

import json
import time

import pytest

from gateway.errors import UpstreamModelMissing, UpstreamProtocolError, UpstreamRejected, UpstreamUnavailable
from gateway.providers.classify import MAX_MESSAGE_CHARS, classify, classify_object, scrub

DEEP = b"[" * 300 + b"]" * 300
LONG = 24 * 1024 * 1024


def test_a_code_of_thousands_of_digits_is_no_status() -> None:
    error = classify_object({"message": "x", "code": "9" * 5000})

    assert type(error) is UpstreamUnavailable


@pytest.mark.parametrize("code", ["429 ", "٤٢٩", "0429", "600", "99"])
def test_only_the_digits_of_a_status_are_one(code: str) -> None:
    assert type(classify_object({"message": "x", "code": code})) is UpstreamUnavailable


@pytest.mark.parametrize("field", ["message", "code", "type", "param"])
def test_what_is_nested_too_deep_to_be_told_is_left_out(field: str) -> None:
    error = classify(400, {}, b'{"error": {"%s": %s}}' % (field.encode(), DEEP))

    assert type(error) is UpstreamRejected
    assert error.message == "no reason given"


@pytest.mark.parametrize("pattern", ["::%a ", "f:f:", "sk-", "1.", "Bearer "])
def test_a_message_of_megabytes_is_told_at_once(pattern: str) -> None:
    text = pattern * (LONG // len(pattern))
    began = time.process_time()

    told = scrub(text, ["some-secret"])

    assert len(told) <= MAX_MESSAGE_CHARS
    assert time.process_time() - began < 1.0  # it took twelve seconds


def test_a_secret_at_the_cut_is_not_told_by_half() -> None:
    secret = "plainword-" + "s" * 4000

    told = scrub(" ".join([secret] * 4), [secret])

    assert told == "*** *** *** ***"


QUOTES = [
    "No such File object: my_model_notes.pdf",
    "File 'the model.pdf' was not found",
    "No such File object: lab/gpt-4o.pdf",
    "No such File object: gpt-4o-mini",
    "Vector store of my-gpt-4o not found",
    "model-notes.pdf not found",
    "models.yaml: no such file",
    "The model does not support image input",
    "Model response cache entry 12 not found",
    "Invalid model output format",
    "No such File object: my gpt-4o note",
    "No endpoints found for gpt-4o that support tool use",
]


@pytest.mark.parametrize("message", QUOTES)
def test_a_404_that_quotes_the_caller_says_nothing_of_the_model(message: str) -> None:
    error = classify(404, {}, json.dumps({"error": {"message": message}}).encode(), model="gpt-4o")

    assert type(error) is UpstreamProtocolError


MISSING = [
    {"message": "gone", "code": "model_not_found"},
    {"message": "gone", "type": "model_not_found"},
    {"message": "gone", "param": "model"},
    {"message": "No endpoints found for gpt-4o."},
    {"message": "there is no 'gpt-4o' here"},
    {"message": 'model "other" not found, try pulling it first'},
    {"message": "The model `other` does not exist or you do not have access to it."},
    {"message": "models/other is not found for API version v1beta"},
    {"message": "model not found"},
    {"message": "model: claude-9", "type": "not_found_error"},
    {"message": "The model 'other' is not available."},
    {"message": "The requested model gpt-4o could not be found"},
    {"message": "Unknown model: 'gpt-4o'"},
    {"message": "Publisher Model `projects/x/models/other` was not found"},
]


@pytest.mark.parametrize("reported", MISSING, ids=str)
def test_a_404_that_is_about_the_model_is_understood_in_many_words(reported: dict[str, str]) -> None:
    error = classify(404, {}, json.dumps({"error": reported}).encode(), model="gpt-4o")

    assert type(error) is UpstreamModelMissing
