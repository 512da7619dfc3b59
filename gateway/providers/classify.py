"""Which error an upstream's answer is: one table from status, code and body to the error tree.

Pure: it reads a status, headers and a body and returns an error; retries and cooldowns are decided by `routing/`.
"""

from __future__ import annotations

import email.utils
import ipaddress
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from gateway.errors import (
    REQUEST_EXCEEDS_RATE_LIMIT,
    ContextLengthExceeded,
    GatewayError,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)

SHORTEST_SECRET = 4  # "x" and the like are placeholders of servers that ask for no key
MAX_MESSAGE_CHARS = 2_000
_MOST_SEARCHED_CHARS = 4 * MAX_MESSAGE_CHARS  # what is masked is mostly longer than its mask
SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 0.05, 60.0
_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_CREDENTIALS = re.compile(
    r"\b(?:sk|gsk|xai|pk|key|rk|hf|nvapi)[-_][A-Za-z0-9_\-]{8,}|\bAIza[A-Za-z0-9_\-]{20,}|\bBearer\s+\S+", re.IGNORECASE
)
_ACCOUNTS = re.compile(r"\b(org|proj)([-_])[A-Za-z0-9][A-Za-z0-9_\-]{5,}")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)(?::\d{1,5}\b)?")
_STATUS_AS_CODE = re.compile(r"[45][0-9]{2}")
_ABSENT = r"(?:(?:was|is|could|does|do)(?: not|n't) |not )(?:be )?(?:found|exist|available)"
_MODEL_IS_ABSENT = re.compile(
    rf"model: [\w./:@-]+(?:\s|$)|\W*(?:(?:the|this|your|publisher|requested) )*models?(?:[ /][`'\"]?[\w./:@-]+[`'\"]?)? {_ABSENT}",
    re.IGNORECASE,
)
_IS_ABSENT = re.compile(rf"{_ABSENT}|no such|unknown|there is no|no endpoints?|no longer|decommissioned", re.IGNORECASE)
_MAYBE_IPV6 = re.compile(
    r"(?<![\w:.])\[?((?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4})(?:%\w+)?(?:\]:\d{1,5}|\])?(?![\w:])", re.IGNORECASE
)


def classify(
    status: int, headers: Mapping[str, str], body: bytes, secrets: Sequence[str] = (), model: str = ""
) -> GatewayError:
    """Return the error that an upstream answer with a status other than 200 stands for.

    `secrets` are our key and headers, taken out of whatever text the caller will read; `model` is what was asked for.
    """
    return classify_object(_error_object(body), status, retry_after(headers), secrets, model)


def classify_object(
    reported: Mapping[str, Any],
    status: int | None = None,
    rest: float | None = None,
    secrets: Sequence[str] = (),
    model: str = "",
) -> GatewayError:
    """Return the error for OpenAI's error object; without a `status` (an error inside a stream) its code decides."""
    code = _word(reported.get("code"))
    kind = _word(reported.get("type"))
    if status is None:
        status = _status_of(reported.get("code"), code, kind)
    message = scrub(_word(reported.get("message")) or "no reason given", secrets)
    if status in (400, 413, 422) and (code in _CONTEXT_CODES or kind in _CONTEXT_CODES):
        return ContextLengthExceeded(_context_message(reported, message), param=_context_param(reported))
    if status == 404 and not _is_missing_model(reported, message, model):
        return UpstreamProtocolError(f"The upstream does not serve this endpoint: {message}", upstream_status=status)
    if status in _REJECTED:
        return _rejected(reported, message, status, secrets)
    make = _BY_STATUS.get(status) or (_unavailable if 500 <= status < 599 else _unexpected)
    return make(message, status, rest, kind if kind == _UNPAID else code)


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Return how long the upstream asks to be left alone, in seconds within 0.05 and 60, or None.

    Understands `retry-after-ms`, seconds and HTTP dates; what cannot be read counts as absent.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    wait = _number(headers.get("retry-after", "")) if milliseconds is None else milliseconds / 1000
    if wait is None:
        try:
            wait = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return min(max(wait, SHORTEST_REST_SECONDS), LONGEST_REST_SECONDS)


def scrub(text: str, secrets: Sequence[str] = ()) -> str:
    """Return upstream text without what looks like a credential, an account's id or an address, in a readable length."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    text = text[:_MOST_SEARCHED_CHARS]  # a message of megabytes would take the regular expressions seconds
    text = _ACCOUNTS.sub(r"\1\2***", _CREDENTIALS.sub("***", text))
    return _MAYBE_IPV6.sub(_mask_address, _IPV4.sub("***", text))[:MAX_MESSAGE_CHARS]


def _mask_address(found: re.Match[str]) -> str:
    """Mask what really is an IPv6 address; times of day and the like have colons, too."""
    try:
        ipaddress.IPv6Address(found[1])
    except ValueError:
        return found[0]
    return "***"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _error_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}  # HTML and the like: never shown to the caller
    if not isinstance(value, dict):
        return {}
    return as_error_object(value.get("error", value))


def as_error_object(reported: Any) -> Mapping[str, Any]:
    """Return what stands under `error` as OpenAI's object: some upstreams put a bare sentence there."""
    if isinstance(reported, dict):
        return reported
    return {"message": reported} if isinstance(reported, str) else {}


def _word(value: Any) -> str | None:
    """Return codes and messages as text: llama.cpp numbers its codes, others nest whole objects."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int | float):
        return str(value)
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:  # nested deeper than is written, though not than is read
        return None


def _status_of(raw: Any, code: str | None, kind: str | None) -> int:
    if isinstance(raw, int) and 400 <= raw < 600:
        return raw
    if code is not None and _STATUS_AS_CODE.fullmatch(code):
        return int(code)
    for word in (code, kind):
        if word in _STATUS_BY_WORD:
            return _STATUS_BY_WORD[word]
    return 500


def _is_missing_model(reported: Mapping[str, Any], message: str, model: str) -> bool:
    """Tell whether a 404 is about the model, which takes the deployment away for minutes.

    Upstreams quote their callers, so a word somewhere in a sentence says nothing: the sentence must say of a model that
    it is not there, or name the very one that was asked for and say so.
    """
    if reported.get("param") == "model" or _NO_MODEL in (reported.get("code"), reported.get("type")):
        return True
    if _MODEL_IS_ABSENT.match(message):
        return True
    name = re.escape(model)
    named = rf"[`'\"]{name}[`'\"]|\bmodels?[ /]{name}(?![\w/-]|[.:]\w)|\bfor {name}\W*$"
    return bool(model) and _IS_ABSENT.search(message) is not None and re.search(named, message) is not None


def _context_message(reported: Mapping[str, Any], message: str) -> str:
    asked, window = reported.get("n_prompt_tokens"), reported.get("n_ctx")
    if isinstance(asked, int) and isinstance(window, int):
        return (
            f"This model's maximum context length is {window} tokens. However, your messages resulted in {asked} tokens. "
            "Please reduce the length of the messages."
        )
    return message


def _context_param(reported: Mapping[str, Any]) -> str | None:
    return _word(reported.get("param"))


# Other refusals (405, 406, 415, 418 …) are about how the gateway asked, so another deployment may do better.
_REJECTED = frozenset({400, 413, 422, 451})
_UNPAID = "insufficient_quota"
_NO_MODEL = "model_not_found"
_STATUS_BY_WORD = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
}


def _rejected(reported: Mapping[str, Any], message: str, status: int, secrets: Sequence[str]) -> UpstreamRejected:
    code, param = _word(reported.get("code")), _word(reported.get("param"))
    if code is None or code == str(status):  # llama.cpp and others repeat the status as code
        code = "request_too_large" if status == 413 else None
    return UpstreamRejected(
        message,
        param=param and scrub(param, secrets),
        code=code and scrub(code, secrets),
        upstream_status=status,
    )


def _unavailable(message: str, status: int, rest: float | None, _: str | None) -> UpstreamError:
    return UpstreamUnavailable(
        f"The upstream failed with status {status}: {message}", upstream_status=status, retry_after=rest
    )


def _unexpected(_message: str, status: int, _rest: float | None, _code: str | None) -> UpstreamError:
    return UpstreamProtocolError(f"The upstream answered with the unexpected status {status}.", upstream_status=status)


def _refused(message: str, status: int, _rest: float | None, _: str | None) -> UpstreamError:
    code = "upstream_auth_failed" if status == 401 else "upstream_forbidden"
    return UpstreamAuthFailed(
        "The upstream refuses the gateway's own credentials; this is not about your key.",
        upstream_status=status,
        code=code,
    )


def _missing_model(message: str, status: int, _rest: float | None, _: str | None) -> UpstreamError:
    return UpstreamModelMissing(f"The upstream does not know the model: {message}", upstream_status=status)


def _slow(message: str, status: int, _rest: float | None, _: str | None) -> UpstreamError:
    return UpstreamTimeout(f"The upstream gave up waiting with status {status}: {message}", upstream_status=status)


def _limited(message: str, status: int, rest: float | None, code: str | None) -> UpstreamError:
    kept = _UNPAID if code == _UNPAID else None
    if message.startswith("Request too large"):
        kept = REQUEST_EXCEEDS_RATE_LIMIT
    return UpstreamRateLimited(message, upstream_status=status, retry_after=rest, code=kept)


def _unpaid(message: str, status: int, rest: float | None, _: str | None) -> UpstreamError:
    return UpstreamRateLimited(message, upstream_status=status, retry_after=rest, code=_UNPAID)


def _overloaded(message: str, status: int, rest: float | None, _: str | None) -> UpstreamError:
    return UpstreamOverloaded(f"The upstream is overloaded: {message}", upstream_status=status, retry_after=rest)


_BY_STATUS: dict[int, Callable[[str, int, float | None, str | None], UpstreamError]] = {
    401: _refused,
    402: _unpaid,
    403: _refused,
    404: _missing_model,
    408: _slow,
    409: _unavailable,
    425: _unavailable,
    429: _limited,
    503: _overloaded,
    504: _slow,
    529: _overloaded,
}
