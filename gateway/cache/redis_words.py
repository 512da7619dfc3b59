"""What is said to Redis, and in which words its failures are told.

An error's own text is never passed on: it may hold a part of the URL, and with it the password.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

PREFIX = b"gateway:embedding:1:"  # with the schema's version, before the 32 bytes of an entry's key

_OF_SOCKETS = (
    (ConnectionRefusedError, "connection refused"),
    (FileNotFoundError, "no such socket"),
    (socket.gaierror, "unknown host"),
    (ssl.SSLError, "TLS"),
)
_LONGEST_CODE = 20


class NotRedis(Exception):
    """A reply that Redis does not give to what was asked."""


def command(*parts: bytes) -> bytes:
    """Return one command as it is sent."""
    said = [b"*%d\r\n" % len(parts)]
    for part in parts:
        said += (b"$%d\r\n" % len(part), part, b"\r\n")
    return b"".join(said)


def look_up(keys: Sequence[bytes]) -> bytes:
    """Return the command that asks for the values of these entries' keys."""
    return command(b"MGET", *(PREFIX + key for key in keys))


def values_of(reply: object, asked: int) -> list[bytes | None]:
    """Return the values of a look-up of so many keys; raises NotRedis for anything else."""
    if not isinstance(reply, list) or len(reply) != asked:
        raise NotRedis
    if not all(value is None or isinstance(value, bytes) for value in reply):
        raise NotRedis
    return reply


def is_babble(error: BaseException) -> bool:
    """Tell whether something replied that is not Redis, or has lost the thread."""
    return isinstance(error, NotRedis) or type(error).__name__ == "InvalidResponse"


def reason_of(error: BaseException) -> str:
    """Return what is wrong, in a few words of ours or as Redis's own code, such as LOADING."""
    if is_babble(error):
        return "not a Redis reply"
    if isinstance(error, TimeoutError):
        return "timeout"
    for cause in (error, error.__context__):
        for kind, words in _OF_SOCKETS:
            if isinstance(cause, kind):
                return words
    if isinstance(error, ValueError | TypeError):
        return "redis.url cannot be read"
    return _code_of(error) or "connection lost"


def _code_of(error: BaseException) -> str:
    if type(error).__module__ != "redis.exceptions":
        return ""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    is_code = isinstance(code, str) and code.isascii() and code.isalpha() and code.isupper()
    return code if is_code and len(code) <= _LONGEST_CODE else ""
