"""Whose fault it is when litellm gives up before anything went over the line, and what is said of it.

Pure: it reads exceptions. Either the gateway's own settings are wrong, which another deployment may do better, or the
request could not be put into the upstream's words, which is the caller's. What an upstream answered is not read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from json import JSONDecodeError

from gateway.errors import EndpointNotServed, GatewayError, UpstreamRejected, UpstreamUnavailable
from gateway.providers.classify import scrub
from gateway.providers.litellm_complaints import read_own_complaint

# Packages that ask somebody: their errors are never about the form of a request.
_NETWORK = frozenset({"aiohttp", "httpcore", "httpx", "openai", "requests", "urllib3"})
_ACCOUNTS = frozenset({"azure", "boto3", "botocore", "cryptography", "google", "jwt", "msal"})
# What begins a sentence about our settings. Looked for before the first mark only: behind it requests are quoted.
_OURS = re.compile(
    r"LLM Provider NOT provided|\b(?:API[ _-]?key|api[ _]base|authentication|credentials?|environment variable|JWT"
    r"|private key|profile|project(?:_id)?|region|(?:access|API) token)\b",
    re.IGNORECASE,
)
_NO_PROVIDER = re.compile(r"LLM Provider NOT provided")
_QUOTES = re.compile(r"[:='\"`({\[]")
# What a form that nobody thought of ends in: the sentence is Python's and tells a caller nothing.
_SLIPS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    JSONDecodeError,
    LookupError,
    NameError,
    RecursionError,
    TypeError,
    UnicodeError,
)
_UNSPEAKABLE = re.compile(
    r"litellm|drop_params|modify_params|traceback|site-packages|\bself\b|\{'\w+':|(?:^|\s)/\w+/|\bNoneType\b"
    r"|\bobject (?:has no|is not|of type)|\bargument\b|validation errors? for|\bunpack\b|update sequence|^'[^']*'$",
    re.IGNORECASE,
)
_LONGEST_SENTENCE = 400
_BAD_MEDIA = re.compile(
    r"unable to fetch image|invalid image received|image url not in expected format|unsupported image type",
    re.IGNORECASE,
)
_FIELDS = re.compile(
    r"\b(dimensions|function_call|functions|logprobs|modalities|parallel_tool_calls|prediction|reasoning[_ ]effort"
    r"|response_format|service_tier|tool_choice|web_search_options)\b"
)
# In this order: a "tool call" is in a message, a "tool" is not.
_TOPICS: Mapping[str, re.Pattern[str]] = {
    "messages": re.compile(
        r"\b(?:messages?|content|images?|picture|files?|documents?|tool[ _]calls?|file_data|mime|thinking)\b",
        re.IGNORECASE,
    ),
    "tools": re.compile(r"\b(?:tools?|functions?)\b", re.IGNORECASE),
}
_CHAT_FIELDS = "'messages', 'tools' and 'response_format'"
_OTHER_FIELDS: Mapping[str, str] = {"embeddings": "'input'", "images/generations": "'prompt', 'size' and 'quality'"}
_UNSERVED = re.compile(r"unmapped LLM provider|does not support (?:embeddings?|image generation)", re.IGNORECASE)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised for, the first cause last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def is_about_the_line(error: BaseException) -> bool:
    """Tell whether something outside was asked and failed, unseen by the line."""
    return any(isinstance(cause, OSError) or _package(cause) in _NETWORK for cause in causes(error))


def misconfigured(error: BaseException, sentence: str, secrets: Sequence[str]) -> GatewayError | None:
    """Return the operator's error if litellm is told too little to ask anybody, None if it is not about that."""
    for cause in causes(error):
        if isinstance(cause, ImportError):
            missing = cause.name or "a package"
            return UpstreamUnavailable(
                f"The upstream cannot be asked: {missing} is not installed.", code="provider_not_installed"
            )
    says_so = _OURS if _status(error) in (0, 500) else _NO_PROVIDER
    if any(_package(cause) in _ACCOUNTS for cause in causes(error)) or says_so.search(_QUOTES.split(sentence, 1)[0]):
        told = sentence if not _UNSPEAKABLE.search(sentence) else "the gateway's settings for it are not complete"
        return UpstreamUnavailable(
            f"The upstream cannot be asked: {scrub(told, secrets)}", code="provider_misconfigured"
        )
    return None


def unserved(sentence: str, endpoint: str) -> EndpointNotServed | None:
    """Return the error for an endpoint that litellm knows of no way to at this provider, None if it is not about that."""
    if not _UNSERVED.match(sentence):
        return None
    return EndpointNotServed(endpoint)


def untranslatable(error: BaseException, sentence: str, endpoint: str, secrets: Sequence[str]) -> UpstreamRejected:
    """Return the caller's error for a request that litellm could not put into the upstream's words.

    `sentence` is litellm's, which may quote the request: it is shown if somebody meant it to be read, and nothing is
    concluded from it but which fields it is about, and whether the model lacks them.
    """
    if _BAD_MEDIA.search(sentence):
        return UpstreamRejected(
            "A picture or file cannot be read. Send it as a data: URL with its media type, in base64.",
            param="input" if endpoint == "embeddings" else "messages",
            code="invalid_value",
        )
    code, param = getattr(error, "code", None), _param(error, sentence, endpoint)
    told = isinstance(code, str) and not code.isdigit()
    lack = None if told else read_own_complaint(sentence)
    if lack is not None:
        code, param, told = lack.code, lack.fields[0], True
    refused = UpstreamRejected(
        scrub(sentence, secrets) if _is_speakable(error, sentence) else _own_sentence(param, endpoint),
        param=param,
        code=scrub(str(code), secrets) if told else "invalid_value",
    )
    if lack is not None:
        refused.fields, refused.clashes = lack.fields, lack.clashes
    return refused


def _is_speakable(error: BaseException, sentence: str) -> bool:
    is_slip = any(isinstance(cause, _SLIPS) for cause in causes(error))
    return not is_slip and 0 < len(sentence) <= _LONGEST_SENTENCE and not _UNSPEAKABLE.search(sentence)


def _own_sentence(param: str | None, endpoint: str) -> str:
    places = f"'{param}'" if param else _OTHER_FIELDS.get(endpoint, _CHAT_FIELDS)
    return f"The request cannot be put into the words of this upstream. Look at the form of {places}."


def _param(error: BaseException, sentence: str, endpoint: str) -> str | None:
    told = getattr(error, "param", None)
    if isinstance(told, str):
        return told[:100]
    if endpoint in _OTHER_FIELDS:
        return "input" if endpoint == "embeddings" else None
    if any(isinstance(cause, _SLIPS) and str(cause) == sentence for cause in causes(error)):
        return None  # a name in it is one of litellm's, or any that the request has somewhere
    named = _FIELDS.search(sentence)
    if named:
        return named[1].replace(" ", "_")
    return next((param for param, topic in _TOPICS.items() if topic.search(sentence)), None)


def _status(error: BaseException) -> int:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else 0


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]
