"""The tier that hosts share: entries in Redis, which may be slow, frozen, full, gone or something else entirely.

A call waits for it for a few milliseconds at most; after a few failures nobody waits until it is back. Connections, the
breaker, the writing and the words are in the files beside this one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field

from pydantic import SecretStr

from gateway.cache.entry import KEY_BYTES, Entry, unpack
from gateway.cache.keys import Space
from gateway.cache.redis_breaker import MOST_FAILURES, Breaker
from gateway.cache.redis_clearing import clear
from gateway.cache.redis_lines import OPENING_SECONDS, Line, Lines, NoLine, NotOpened
from gateway.cache.redis_place import LookUp
from gateway.cache.redis_place import look_up as find_host
from gateway.cache.redis_words import is_babble, look_up, reason_of, values_of
from gateway.cache.redis_writing import Waiting, Writing
from gateway.cache.settings import RedisTierSettings
from gateway.cache.tier import Counts, TierName, TierState
from gateway.logs import event

KEYS_AT_ONCE = 256  # a megabyte or four, to be checked in one go
JITTER = 0.1  # of the time to live, up and down: what came together does not go together
CLOSING_SECONDS = 1.5
PATIENCE = 0.2  # of the time that a call has: how long it waits for those before it
_BUSY_OURSELVES = 0.5  # the weight of a timeout that came late: the loop was busy, an answer may have been there


@dataclass(eq=False, repr=False)
class RedisTier:
    """The third tier. Nothing is opened before it is used; use it in one process and on one event loop.

    `timeout` is the most that a call waits, in seconds. `clock` is monotonic, `wall` gives Unix seconds, `dice` numbers
    in [0, 1), `find` a host's addresses.
    """

    url: InitVar[str]
    settings: RedisTierSettings
    timeout: float
    counts: Counts
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    dice: Callable[[], float] = random.random
    find: LookUp = find_host
    name: TierName = field(default="redis", init=False)

    def __post_init__(self, url: str) -> None:
        self._trouble = self._refusal = ""
        self._in_doubt = bytes(KEY_BYTES)  # what was asked when it failed; the probe asks the same
        self._closed = False
        patience = self.timeout * PATIENCE
        self._lines = Lines(
            SecretStr(url), patience=patience, clock=self.clock, not_opened=self._not_opened, find=self.find
        )
        self._breaker = Breaker(self._probe, self._tell, self.dice)
        self._writing = Writing(
            self._lines, clock=self.clock, left_out=self._left_out, lost=self._failed, told=self._tell_writes
        )

    async def warm(self) -> None:
        """Load the library and open the first connection, so that no call has to wait for that; says if Redis is away."""
        with suppress(Exception):  # the probe finds the same, and tells it
            await self._lines.load()  # apart: a slow disk of ours is no trouble of Redis'
        reason = await self._probe()
        if reason:
            self._breaker.failed(reason, MOST_FAILURES)
        else:
            self._breaker.succeeded()

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return what Redis has of these keys, in the time that it has; what came in time is kept, the rest is missed."""
        found: dict[bytes, Entry] = {}
        if not keys or self._is_off:
            return found
        wanted = list(dict.fromkeys(keys))
        if await self._asked(wanted, found):
            self._breaker.succeeded()
        else:
            self.counts.failed("redis", "read")
        self.counts.looked_up("redis", len(found), len(wanted) - len(found))
        return found

    def put_many(self, entries: Sequence[Entry], space: Space) -> None:
        """Take entries to be written soon."""
        if not entries:
            return
        now = self.wall()
        taken = not self._is_off
        for entry in entries if taken else ():
            seconds = self.settings.ttl_seconds * (1 - JITTER + 2 * JITTER * self.dice())
            if entry.until:
                seconds = min(seconds, entry.until - now)
            if seconds > 0:
                taken &= self._writing.put(Waiting(entry.key, entry, max(1, int(seconds * 1000))))
        if not taken:
            self._left_out()

    async def clear(self, label: str | None = None) -> int:
        """Forget all entries, or those of one `provider/model`, in small steps; return how many."""
        if self._is_off:
            self._left_out()
            return 0
        return await clear(self._lines, self._writing, label, failed=self._failed_writing)

    async def state(self) -> TierState:
        """Return what is wrong, if anything; how much of Redis is ours only a walk through all of it would tell."""
        return TierState("redis", None, None, trouble=self._trouble or self._refusal)

    async def close(self) -> None:
        """Write what waits, for a moment, and close all connections."""
        if not self._is_off:
            await self._writing.close(CLOSING_SECONDS)
        self._closed = True
        await self._writing.close(0)
        await self._breaker.close()
        await self._lines.close()

    @property
    def _is_off(self) -> bool:
        return self._closed or self._breaker.is_open

    async def _asked(self, wanted: list[bytes], found: dict[bytes, Entry]) -> bool:
        """Fill `found`; return whether all were answered for."""
        loop = asyncio.get_running_loop()
        has_line = False
        try:
            async with asyncio.timeout(self.timeout) as limit, self._lines.lend() as line:
                has_line = True
                await self._read(line, wanted, found)
        except (NoLine, NotOpened):
            return False
        except TimeoutError as error:
            late = loop.time() - (limit.when() or 0.0) > self.timeout / 2
            if has_line:
                self._failed(error, wanted[0], _BUSY_OURSELVES if late else 1.0)
            return False
        except Exception as error:  # noqa: BLE001  whatever is wrong with Redis, it is a miss
            self._failed(error, wanted[0])
            return False
        return True

    async def _read(self, line: Line, wanted: list[bytes], found: dict[bytes, Entry]) -> None:
        parts = [wanted[start : start + KEYS_AT_ONCE] for start in range(0, len(wanted), KEYS_AT_ONCE)]
        await line.send(b"".join(map(look_up, parts)))
        for part in parts:
            for key, value in zip(part, values_of(await line.read(), len(part)), strict=True):
                if value is not None and (entry := self._checked(key, value)) is not None:
                    found[key] = entry

    def _checked(self, key: bytes, value: bytes) -> Entry | None:
        entry = unpack(value, key)
        if entry is None:
            self.counts.damaged("redis", "entry")
            self._writing.put(Waiting(key))
            return None
        return None if entry.until and entry.until <= self.wall() else entry

    async def _probe(self) -> str:
        """Ask once what failed before; return what is wrong."""
        try:
            async with asyncio.timeout(OPENING_SECONDS + self.timeout), self._lines.lend() as line:
                async with asyncio.timeout(self.timeout):
                    await line.send(look_up([self._in_doubt]))
                    values_of(await line.read(), 1)
        except Exception as error:  # noqa: BLE001  whatever it is, Redis is not back
            return reason_of(error)
        return ""

    def _failed(self, error: Exception, key: bytes | None = None, weight: float = 1.0) -> None:
        if self._closed:
            return
        if is_babble(error):
            self.counts.damaged("redis", "protocol")
        self._in_doubt = key or self._in_doubt
        self._breaker.failed(reason_of(error), weight)

    def _failed_writing(self, error: Exception) -> None:
        self._left_out()
        if not isinstance(error, NotOpened):  # which has been told
            self._failed(error)

    def _not_opened(self, error: Exception) -> None:
        # Nothing is won by trying that twice more.
        self._failed(error, weight=MOST_FAILURES)

    def _left_out(self) -> None:
        self.counts.failed("redis", "write")

    def _tell(self, reason: str) -> None:
        was_down, self._trouble = bool(self._trouble), reason
        self.counts.is_up("redis", up=not reason)
        if reason:
            self._lines.release_the_waiting()
            self._writing.forget()
            event("redis_down", level="warning", reason=reason)
        elif was_down:
            event("redis_up")

    def _tell_writes(self, reason: str) -> None:
        self._refusal = reason
        if reason:
            event("redis_refuses_writes", level="warning", reason=reason)
        else:
            event("redis_accepts_writes")
