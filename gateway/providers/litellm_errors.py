"""Which error a failed call through litellm is.

What went over the line is believed first, because litellm changes statuses and wraps sentences; its own exceptions
are read only where nothing was seen of the line. Codes and wording are those of `classify.py`; what litellm refused
before asking anybody is told in `litellm_refusals.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import orjson

from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from gateway.providers.classify import as_error_object, classify_object, retry_after, scrub
from gateway.providers.litellm_complaints import read_complaint
from gateway.providers.litellm_line import AnswerTooLarge, Line
from gateway.providers.litellm_refusals import causes, is_about_the_line, misconfigured, unserved, untranslatable
from gateway.wire import data_of

_TOO_LONG = re.compile(
    r"prompt is too long|input is too long|exceeds? (?:the )?(?:context|maximum number of tokens|max_tokens limit)"
    r"|maximum context length|context (?:window|limit)|too many (?:input )?tokens",
    re.IGNORECASE,
)
# Anchored: further on in a sentence anything may be quoted, also from the request.
_UNPAID = re.compile(r"Your credit balance is too low")
_BAD_KEY = re.compile(r"API[ _]key (?:not valid|expired|not found)", re.IGNORECASE)
_FIELD = re.compile(r"^[`'\"]?([a-z_]+(?:\.[a-z0-9_]+)*)[`'\"]?(?:: |\s+(?:is|may|must|cannot|does|should)\b)")
_NAMED = re.compile(r"[`'\"]([a-z]+(?:_[a-z0-9]+)*)[`'\"]")
_DELAY = re.compile(r'"retryDelay"\s*:\s*"([0-9.]+)s"')
_WRAPPING = re.compile(r"^(?:(?:litellm\.)?[A-Za-z_]*(?:Error|Exception|Timeout)\s*)+(?:[:-]\s*|(?=\{))")
_ADVICE = re.compile(
    r"\s*(?:To drop (?:it|this|unsupported|these)|Traceback \(most recent|This looks like a bug in LiteLLM|Received Messages="
    r"|(?:Either provide one, or |Please |or )?set `?litellm[._]|Handle with `litellm).*",
    re.DOTALL,
)
_UNSUPPORTED = re.compile(r"(?:does not support (?:parameters: \[)?|Setting )[`'\"]?([a-z_]+)")
_PARAMS: Mapping[str, str] = {"embeddings": "input", "images/generations": "prompt"}
_CALLERS = (400, 413, 422)
_SAID_OF_US = frozenset({401, 402, 403, 404, 408, 409, 429, 451})  # statuses litellm gives its own words by
_NO_FIELDS = frozenset({"error", "messages_error", "model"})


def explain(error: BaseException, line: Line, endpoint: str, secrets: Sequence[str]) -> GatewayError:
    """Return our error for what a call raised before its answer was whole or its stream had begun."""
    if isinstance(error, GatewayError):
        return error
    if line.failure is not None:
        return explain_line(line.failure)
    if line.status and line.status != 200:
        return explain_refusal(line.status, line.headers, line.refusal, endpoint, secrets)
    if line.status == 200:
        return _explain_good(error, line, secrets)
    return _explain_unseen(error, endpoint, secrets)


def explain_break(error: BaseException, line: Line, secrets: Sequence[str]) -> GatewayError:
    """Return our error for a stream that broke: what the upstream said last, or that it ended."""
    if isinstance(error, GatewayError):
        return error
    if line.failure is not None:
        return interrupted(f": {type(line.failure).__name__}")
    if (reported := _reported_last(line.last_words)) is not None:
        return classify_object(reported, secrets=secrets)
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        return classify_object({"message": _sentence(error)}, status, secrets=secrets)
    return interrupted(f": {type(error).__name__}")


def interrupted(reason: str = " before it was finished") -> UpstreamUnavailable:
    return UpstreamUnavailable(f"The upstream's stream ended{reason}.", code="upstream_stream_interrupted")


def explain_line(error: BaseException) -> UpstreamError:
    """Return our error for a connection that could not be made, or broke."""
    name = type(error).__name__
    if isinstance(error, AnswerTooLarge):
        return UpstreamTooLarge("The upstream's answer is too large.")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The upstream did not accept a connection in time.")
    if isinstance(error, aiohttp.ClientSSLError):
        return UpstreamUnavailable("No trusted TLS connection to the upstream.", code="upstream_tls_error")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamUnavailable(f"The upstream cannot be reached ({name}).", code="upstream_unreachable")
    if isinstance(error, aiohttp.ClientPayloadError):
        return UpstreamUnavailable("The upstream's answer was cut short.", code="upstream_truncated")
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamProtocolError(f"The upstream broke HTTP ({name}).")
    return UpstreamUnavailable(f"The upstream closed the connection ({name}).")


def explain_refusal(
    status: int, headers: Mapping[str, str], body: bytes, endpoint: str, secrets: Sequence[str]
) -> GatewayError:
    """Return our error for an answer with a status other than 200."""
    if 300 <= status < 400:
        return UpstreamProtocolError(
            "The upstream answered with a redirect, which is never followed.",
            code="upstream_redirect",
            upstream_status=status,
        )
    reported = _reported(body)
    message = str(reported.get("message") or "")
    if status in _CALLERS:
        if _TOO_LONG.search(message):
            return ContextLengthExceeded(scrub(message, secrets), param=_PARAMS.get(endpoint, "messages"))
        if _UNPAID.match(message):
            status = 402
        elif _BAD_KEY.match(message):
            status = 401
    rest = retry_after(headers)
    if rest is None and (delay := _DELAY.search(body.decode(errors="replace"))):
        rest = retry_after({"retry-after": delay[1]})
    error = classify_object(reported, status, rest, secrets)
    if isinstance(error, UpstreamRejected):
        _name_fields(error, message)
    return error


def _name_fields(error: UpstreamRejected, message: str) -> None:
    complaint = read_complaint(message) if error.code is None else None
    if complaint is not None:
        error.code, error.fields, error.clashes = complaint.code, complaint.fields, complaint.clashes
        error.param = error.param or complaint.fields[0]
    elif error.param is None:
        error.param = _param_of(message)


def _param_of(message: str) -> str | None:
    """Return the field an upstream complains of, where its sentence begins with it or names but one."""
    begins = _FIELD.match(message) or _UNSUPPORTED.search(message)
    if begins:
        name = begins[1]
    else:
        named = set(_NAMED.findall(message))
        name = named.pop() if len(named) == 1 else ""
    return name if name and name not in _NO_FIELDS else None


def _explain_good(error: BaseException, line: Line, secrets: Sequence[str]) -> GatewayError:
    if line.is_stream:
        return explain_break(error, line, secrets)
    return UpstreamProtocolError("The upstream's answer cannot be read.", code="upstream_bad_response")


def _explain_unseen(error: BaseException, endpoint: str, secrets: Sequence[str]) -> GatewayError:
    """Read litellm's own exception: it refused the request by itself, or asked over a connection of its own."""
    broken = next((cause for cause in causes(error) if isinstance(cause, aiohttp.ClientError)), None)
    if broken is not None:
        return explain_line(broken)
    sentence = _sentence(error)
    status, headers = _head(error)
    if isinstance(error, TimeoutError) or (status == 408 and not headers):
        return UpstreamTimeout("The upstream did not answer in time.")
    if not headers and (status <= 500 and status not in _SAID_OF_US) and not _TOO_LONG.search(sentence):
        return _explain_unasked(error, sentence, endpoint, secrets)
    if status < 300 or (status >= 500 and not headers):
        return UpstreamProtocolError(f"The upstream could not be asked: {scrub(sentence, secrets)}")
    refused = explain_refusal(status, headers, orjson.dumps({"message": sentence}), endpoint, secrets)
    if isinstance(refused, UpstreamRejected):
        param, code = _told(error, "param", secrets), _told(error, "code", secrets)
        return UpstreamRejected(
            refused.message, param=param or refused.param, code=code or refused.code, upstream_status=status
        )
    if refused.retry_after is None and (delay := _DELAY.search(str(error))):
        refused.retry_after = retry_after({"retry-after": delay[1]})
    return refused


def _head(error: BaseException) -> tuple[int, Mapping[str, str]]:
    """Return status and headers of the answer an exception was raised for, without headers where there was none."""
    for cause in causes(error):
        response = getattr(cause, "response", None)
        if response is not None and _is_answer(cause):
            return response.status_code, response.headers
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else 0, {}


def _explain_unasked(error: BaseException, sentence: str, endpoint: str, secrets: Sequence[str]) -> GatewayError:
    if is_about_the_line(error):
        return UpstreamProtocolError(f"The upstream could not be asked: {scrub(sentence, secrets)}")
    ours = misconfigured(error, sentence, secrets) or unserved(sentence, endpoint)
    return ours or untranslatable(error, sentence, endpoint, secrets)


def _is_answer(error: BaseException) -> bool:
    """Tell whether an exception holds a real answer: litellm's own make one up."""
    return type(error).__module__.partition(".")[0] in ("httpx", "openai")


def _told(error: BaseException, name: str, secrets: Sequence[str]) -> str | None:
    told = getattr(error, name, None)
    return scrub(told, secrets) if isinstance(told, str) and not told.isdigit() else None


def _sentence(error: BaseException) -> str:
    """Return what the upstream said, out of litellm's wrapping."""
    text = _ADVICE.sub("", str(getattr(error, "message", None) or error))
    while wrapped := _WRAPPING.match(text):
        text = text[wrapped.end() :]
    if text.startswith(("b'", 'b"')):
        try:
            text = ast.literal_eval(text).decode(errors="replace")
        except (ValueError, SyntaxError):
            return text
    return str(_reported(text.encode()).get("message") or text) if text.startswith(("{", "[")) else text


def _reported(body: bytes) -> Mapping[str, Any]:
    """Return the error object of a body: Anthropic's and OpenAI's are the same, Google's may be in a list."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    return as_error_object(value.get("error", value)) if isinstance(value, dict) else {}


def _reported_last(words: bytes) -> Mapping[str, Any] | None:
    for event in reversed(words.replace(b"\r\n", b"\n").split(b"\n\n")):
        data = data_of(event + b"\n\n") if b'"error"' in event else b""
        if data:
            return _reported(data) or None
    return None
