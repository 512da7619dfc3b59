"""Log lines: JSON, one per event, written off the road.

A request's line is put in a list; a timer hands the list to one thread, which encodes, redacts and writes it. A reader
that is slow or gone costs dropped lines, counted, and never a request. What a line says is decided where it happens.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, BinaryIO

import orjson

LEVEL_VARIABLE = "GATEWAY_LOG_LEVEL"
FLUSH_SECONDS = 0.1
MOST_WAITING = 10_000
SHORTEST_SECRET = 6  # shorter ones are placeholders such as "x" and would blot out ordinary text


def event(name: str, /, *, level: str = "info", **fields: object) -> None:
    """Write one line to standard error now; for start, stop and other rare moments.

    Lines of the level `debug` are written only when GATEWAY_LOG_LEVEL says debug.
    """
    if level == "debug" and os.environ.get(LEVEL_VARIABLE) != "debug":
        return
    line = {"time": format_time(time.time()), "level": level, "event": name, **fields}
    with suppress(OSError, ValueError):
        if not select.select([], [sys.stderr], [], 0)[1]:
            return  # a reader that has stopped must not stop us
    with suppress(OSError, ValueError):  # nobody reads any more: what happens matters more than saying it
        sys.stderr.write(orjson.dumps(line, default=str).decode() + "\n")
        sys.stderr.flush()


def format_time(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC, with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_format_second(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=8)
def _format_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class LogSink:
    """Writes lines as JSON to `stream` from a thread of its own; `secrets` are blotted out in every line.

    A line's `time` is in Unix seconds; the thread writes it out in RFC 3339.
    """

    def __init__(self, stream: BinaryIO, secrets: Iterable[str] = ()) -> None:
        self.dropped = 0
        self._stream = stream
        # As they stand in JSON, where quotes and backslashes are escaped.
        words = {orjson.dumps(secret)[1:-1] for secret in secrets if len(secret) >= SHORTEST_SECRET}
        self._secrets = sorted(words, key=len, reverse=True)  # one may hold another
        self._waiting: list[dict[str, Any]] = []
        self._batches: queue.SimpleQueue[list[dict[str, Any]] | None] = queue.SimpleQueue()
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    def put(self, line: dict[str, Any]) -> None:
        """Take a line; returns at once. Must be called on the event loop's thread."""
        if len(self._waiting) + self._batches.qsize() * 100 >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def close(self) -> None:
        """Write what is waiting and end the thread; waits at most two seconds for a slow reader."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._batches.put(None)
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _flush(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_batches, name="log", daemon=True)
            self._thread.start()
        self._batches.put(self._waiting)
        self._waiting = []

    def _write_batches(self) -> None:
        while (batch := self._batches.get()) is not None:
            text = b"".join(map(_encode, batch))
            for secret in self._secrets:
                text = text.replace(secret, b"***")
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # the reader is gone: requests matter more than their lines
                self.dropped += len(batch)


def _encode(line: dict[str, Any]) -> bytes:
    line["time"] = format_time(line["time"])
    try:
        return orjson.dumps(line, default=str) + b"\n"
    except TypeError:  # half a character, as a path may hold one
        return json.dumps(line, default=str).encode() + b"\n"
