"""Whether an engine still moves: it is asked for something that it can only answer between two steps of its work.

What is done about one that does not is the parent's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

Pulse = Callable[[], Awaitable[None]]

# llama.cpp's server hands this to the thread that computes, which answers between two batches, at work or not.
_REQUEST = b"GET /lora-adapters HTTP/1.0\r\n\r\n"


@runtime_checkable
class Pulsing(Protocol):
    """A model that says itself when its engine has come to the end of a step."""

    async def pulse(self) -> None: ...


class Vitals:
    """How long an engine has owed an answer to `pulse`; `clock()` is in seconds. It belongs to one event loop."""

    def __init__(self, pulse: Pulse, clock: Callable[[], float]) -> None:
        self._pulse = pulse
        self._clock = clock
        self._asked = 0.0
        self._asking: asyncio.Task[bool] | None = None

    def silent_seconds(self) -> float:
        """Return how long the engine has been silent when it should not, and ask it unless it was asked already."""
        now = self._clock()
        if self._asking is None or self._asking.done():
            if self._asking is None or self._asking.result():
                self._asked = now
            self._asking = asyncio.create_task(self._ask())
        return now - self._asked

    async def _ask(self) -> bool:
        try:
            await self._pulse()
        except OSError:
            return False
        return True


async def pulse_of_server(path: Path) -> None:
    """Return when llama.cpp's server at `path` has come to the end of a step; raises OSError."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(_REQUEST)
        if not await reader.read(1):
            raise ConnectionError("the server closed the connection")
    finally:
        writer.close()
