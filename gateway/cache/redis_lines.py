"""Connections to Redis: a few, each lent to one exchange at a time.

A line comes back only after an exchange that went to its end. After anything else, cancellation above all, a reply may
still be on its way, and the next to use the line would take it for theirs: it is cut. What is said on a line, and what
failures mean, is decided elsewhere. Nothing is opened, or even imported, before the first line is asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import SecretStr

from gateway.cache.redis_place import LookUp, Place, look_up, place_of

MOST_LINES = 4  # so many calls, at most, find out by waiting that Redis has frozen
OPENING_SECONDS = 0.5
_AGAIN_SECONDS = 0.02


class NoLine(Exception):
    """No line was free in time. Says nothing of Redis; those who have the lines will find out."""


class NotOpened(Exception):
    """A line could not be opened; `Lines.not_opened` was told why."""


class Line:
    """One connection, open and greeted."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        # redis-py forgets it on errors, after a closing that waits for what a frozen Redis will not read.
        self._transport: asyncio.Transport = connection._writer.transport

    async def send(self, packed: bytes) -> None:
        """Send commands as they are."""
        if not self._connection.is_connected:  # redis-py would open another
            raise ConnectionResetError
        await self._connection.send_packed_command(packed, check_health=False)

    async def read(self) -> Any:
        """Return the next reply; raises redis-py's errors, also those that Redis replied with."""
        return await self._connection.read_response(disable_decoding=True)

    async def read_all(self, replies: int) -> list[Any]:
        """Return the next replies; what Redis refused is one of its errors among them, any other error is raised."""
        from redis.exceptions import ResponseError

        answers: list[Any] = []
        for _ in range(replies):
            try:
                answers.append(await self.read())
            except ResponseError as refusal:
                answers.append(refusal)
        return answers

    async def is_sound(self) -> bool:
        """Tell whether it is connected, and nothing unasked for lies in it."""
        return self._connection.is_connected and not await self._connection.can_read()

    async def cut(self) -> None:
        """Close it now, whatever is on its way."""
        self._transport.abort()
        await self._connection.disconnect(nowait=True)


class Lines:
    """Lends lines, and opens them one after another: a Redis that returns is not run over.

    A wait for a line ends after `patience` seconds: when all are in use for longer than that, nobody waits.
    `not_opened` is told why a line could not be opened. `clock` is monotonic.
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        patience: float,
        clock: Callable[[], float],
        not_opened: Callable[[Exception], None],
        find: LookUp = look_up,
    ) -> None:
        self._find = find
        self._url = url
        self._patience = patience
        self._clock = clock
        self._not_opened = not_opened
        self._place: Place | None = None
        self._idle: list[Line] = []
        self._lent: dict[Line, float] = {}  # since when
        self._waiting: deque[asyncio.Future[Line]] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._opening_since = 0.0
        self._closed = False

    @asynccontextmanager
    async def lend(self, *, patiently: bool = False) -> AsyncIterator[Line]:
        """Lend a line; raises NoLine and NotOpened. Left with any exception, the line is cut.

        Whoever asks patiently, because no call waits, asks again and again until there is one.
        """
        line = await (self._take_at_last() if patiently else self._take())
        try:
            yield line
        except BaseException:
            self._lent.pop(line, None)
            await line.cut()
            self._open_for_the_waiting()
            raise
        if self._closed:
            await line.cut()
        else:
            self._hand_on(line)

    async def load(self) -> Place:
        """Load the library, which reads files for a tenth of a second and more; raises ValueError for a wrong URL."""
        if self._place is None:
            self._place = await asyncio.to_thread(place_of, self._url, self._find)
        return self._place

    def release_the_waiting(self) -> None:
        """Let go who waits for a line: there will be none."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(NoLine())

    async def cut_the_idle(self) -> None:
        """Close the lines that nobody uses."""
        while self._idle:
            await self._idle.pop().cut()

    async def close(self) -> None:
        """Close every line, and open none again; whoever uses one loses it."""
        self._closed = True
        self.release_the_waiting()
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        for line in tuple(self._lent):
            await line.cut()
        await self.cut_the_idle()

    async def _take(self) -> Line:
        while self._idle:
            line = self._idle.pop()
            if await line.is_sound():
                self._lent[line] = self._clock()
                return line
            await line.cut()
        return await self._wait()

    async def _take_at_last(self) -> Line:
        while True:
            try:
                return await self._take()
            except NoLine:
                if self._closed:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _wait(self) -> Line:
        if self._closed or self._is_stuck():
            raise NoLine
        waiting: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._open_for_the_waiting()
        try:
            # The first line may take as long to open as the caller has time.
            async with asyncio.timeout(self._patience if self._lent else None):
                return await waiting
        except TimeoutError:
            self._take_back(waiting)
            raise NoLine from None
        except asyncio.CancelledError:
            self._take_back(waiting)
            raise

    def _is_stuck(self) -> bool:
        now = self._clock()
        if len(self._lent) >= MOST_LINES:
            return now - max(self._lent.values()) > self._patience
        return self._opening is not None and now - self._opening_since > self._patience

    def _take_back(self, waiting: asyncio.Future[Line]) -> None:
        """Hand on the line that came at the moment when its taker left."""
        if waiting.cancel() or waiting.cancelled() or waiting.exception() is not None:
            return
        self._hand_on(waiting.result())

    def _hand_on(self, line: Line) -> None:
        self._lent.pop(line, None)
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self._lent[line] = self._clock()
                waiting.set_result(line)
                return
        self._idle.append(line)

    def _open_for_the_waiting(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if self._waiting and self._opening is None and len(self._lent) + len(self._idle) < MOST_LINES:
            self._opening_since = self._clock()
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            line = await self._connected()
        except Exception as error:  # noqa: BLE001  a URL, a name, a socket, TLS, a greeting: each in its own words
            self._not_opened(error)
            self._refuse_the_waiting()
        else:
            self._hand_on(line)
        finally:
            self._opening = None
        self._open_for_the_waiting()

    def _refuse_the_waiting(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(NotOpened())

    async def _connected(self) -> Line:
        place = await self.load()
        async with asyncio.timeout(OPENING_SECONDS):
            addresses = await place.name.addresses() if place.name else [""]
            for address in addresses[:-1]:
                with suppress(OSError, *place.refusals):
                    return await _opened(place.make(address))
            return await _opened(place.make(addresses[-1]))


async def _opened(connection: Any) -> Line:
    try:
        await connection.connect()
        return Line(connection)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
