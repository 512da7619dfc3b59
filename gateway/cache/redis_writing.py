"""What waits to be written to Redis, and the one task that writes it. Nobody waits for that.

What there is no room for is left out and counted. A Redis that answers but takes no writes (it is full, or a replica) is
still read; writing is tried again after a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gateway.cache.entry import HEADER_BYTES, Entry, pack
from gateway.cache.redis_lines import Lines, NotOpened
from gateway.cache.redis_words import PREFIX, command, reason_of

MOST_WAITING_BYTES = 16 << 20
BATCH_BYTES = 1 << 20
WRITING_SECONDS = 1.0
PAUSE_SECONDS = 5.0  # after a write that Redis refused


class Waiting(NamedTuple):
    """A key to be set to an entry for a time, or to be forgotten."""

    key: bytes
    entry: Entry | None = None
    milliseconds: int = 0

    @property
    def size(self) -> int:
        return len(self.key) + HEADER_BYTES + (len(self.entry.vector) if self.entry else 0)

    def as_command(self) -> bytes:
        name = PREFIX + self.key
        if self.entry is None:
            return command(b"UNLINK", name)
        return command(b"SET", name, pack(self.entry), b"PX", b"%d" % self.milliseconds)


class Writing:
    """Writes what it is given, in batches.

    `left_out` is told each time that something is not written, `lost(error)` of a line that failed and `told` of
    changes in whether Redis takes writes: why it does not, "" when it does. `clock` is monotonic.
    """

    def __init__(
        self,
        lines: Lines,
        *,
        clock: Callable[[], float],
        left_out: Callable[[], None],
        lost: Callable[[Exception], None],
        told: Callable[[str], None],
    ) -> None:
        self._lines = lines
        self._clock = clock
        self._left_out = left_out
        self._lost = lost
        self._told = told
        self._waiting: deque[Waiting] = deque()
        self._size = 0
        self._again_at = 0.0
        self._refused = False
        self._task: asyncio.Task[None] | None = None
        self._is_settled = asyncio.Event()
        self._is_settled.set()

    def put(self, waiting: Waiting) -> bool:
        """Take something to be written; returns whether there was room."""
        if self._clock() < self._again_at or self._size + waiting.size > MOST_WAITING_BYTES:
            return False
        self._waiting.append(waiting)
        self._size += waiting.size
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return True

    def forget(self, of_space: bytes | None = None) -> None:
        """Write nothing of what waits, or nothing of what waits in one space."""
        kept = [each for each in self._waiting if of_space and not (each.entry and each.entry.space == of_space)]
        self._waiting = deque(kept)
        self._size = sum(each.size for each in kept)

    async def settle(self) -> None:
        """Wait until what is being written just now is written or given up."""
        await self._is_settled.wait()

    async def close(self, seconds: float) -> None:
        """Write what waits for so long, then stop."""
        if (task := self._task) is not None:
            await asyncio.wait({task}, timeout=seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._is_settled.clear()
                await self._write(self._next_batch())
                self._is_settled.set()
        finally:
            self._is_settled.set()
            self._task = None

    def _next_batch(self) -> list[Waiting]:
        batch, size = [], 0
        while self._waiting and size < BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        self._size -= size
        return batch

    async def _write(self, batch: list[Waiting]) -> None:
        packed = b"".join(each.as_command() for each in batch)
        try:
            refusal = await self._sent(packed, len(batch))
        except NotOpened:  # has been told
            self._give_up()
        except Exception as error:  # noqa: BLE001  whatever the line failed of, the tier fails nobody
            self._lost(error)
            self._give_up()
        else:
            self._note(refusal)

    async def _sent(self, packed: bytes, replies: int) -> Exception | None:
        """Send commands as soon as there is a line, and read all replies; return the first refusal."""
        async with self._lines.lend(patiently=True) as line, asyncio.timeout(WRITING_SECONDS):
            await line.send(packed)
            answers = await line.read_all(replies)
        return next((answer for answer in answers if isinstance(answer, Exception)), None)

    def _note(self, refusal: Exception | None) -> None:
        if refusal is not None:
            self._again_at = self._clock() + PAUSE_SECONDS
            self._give_up()
        if (refusal is not None) != self._refused:
            self._refused = refusal is not None
            self._told(reason_of(refusal) if refusal else "")

    def _give_up(self) -> None:
        self.forget()
        self._left_out()
