"""Which hosts this process looks up or connects to, told by the interpreter itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@cache
def _listeners() -> list[set[str]]:
    """Return the sets that are being filled; a hook cannot be taken away again, so there is one for all of them."""
    listeners: list[set[str]] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if not listeners:
            return
        host: Any = None
        if event == "socket.getaddrinfo":
            host = arguments[0]
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        if host is not None:
            for reached in listeners:
                reached.add(host.decode() if isinstance(host, bytes) else str(host))

    sys.addaudithook(note)
    return listeners


@contextmanager
def reached_hosts() -> Iterator[set[str]]:
    """Collect the names and addresses that are looked up or connected to meanwhile."""
    reached: set[str] = set()
    _listeners().append(reached)
    try:
        yield reached
    finally:
        _listeners().remove(reached)
