"""What is said to Redis, and how its failures are told: in our words or by Redis's code, never with a URL."""

from __future__ import annotations

import socket
import ssl

import pytest
from redis import exceptions as redis

from gateway.cache.redis_words import PREFIX, NotRedis, command, is_babble, look_up, reason_of, values_of


def caused_by(cause: Exception) -> Exception:
    error = redis.ConnectionError("Error connecting to redis://:hunter2@host")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "timeout"),
        (caused_by(ConnectionRefusedError()), "connection refused"),
        (caused_by(FileNotFoundError()), "no such socket"),
        (caused_by(socket.gaierror()), "unknown host"),
        (caused_by(ssl.SSLError()), "TLS"),
        (caused_by(OSError("hunter2")), "connection lost"),
        (ConnectionResetError(), "connection lost"),
        (redis.ConnectionError("Connection closed by server."), "connection lost"),
        (ValueError("hunter2"), "redis.url cannot be read"),
        (TypeError("hunter2"), "redis.url cannot be read"),
        (redis.InvalidResponse("HTTP"), "not a Redis reply"),
        (NotRedis(), "not a Redis reply"),
        (redis.ResponseError("BUSY Redis is busy running a script."), "BUSY"),
        (redis.BusyLoadingError("hunter2", status_code="LOADING"), "LOADING"),
        (redis.AuthenticationError("hunter2", status_code="WRONGPASS"), "WRONGPASS"),
        (redis.ResponseError("HUNTER2HUNTER2HUNTER2"), "connection lost"),
        (LookupError("HUNTER"), "connection lost"),
        (caused_by(ssl.SSLCertVerificationError()), "TLS"),
    ],
)
def test_a_failure_is_told_in_a_few_words(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
    assert is_babble(error) == (reason == "not a Redis reply")


def test_a_command_is_said_with_its_lengths() -> None:
    assert command(b"SET", b"a\r\nb", b"") == b"*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n"
    assert look_up([b"k"]) == command(b"MGET", PREFIX + b"k")


@pytest.mark.parametrize("reply", [None, 1, b"x", [], [b"x"], [b"x", 1], [b"x", [b"y"]], [b"x", ValueError()], "ab"])
def test_only_as_many_values_as_were_asked_for_are_an_answer(reply: object) -> None:
    with pytest.raises(NotRedis):
        values_of(reply, 2)


def test_values_may_be_missing() -> None:
    assert values_of([None, b"x"], 2) == [None, b"x"]
