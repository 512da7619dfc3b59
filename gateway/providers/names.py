"""Finding a host's addresses in bounded time: a name server that says nothing must not hold up a call.

Which connection is made to what is found is decided in `pool.py`.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

RESOLVE_SECONDS = 2.0

_Wanted = tuple[str, int, socket.AddressFamily]


class CappedResolver(AbstractResolver):
    """Asks `inner`, and gives up waiting after `seconds`; whatever goes wrong is a `socket.gaierror`.

    The system's look-up runs in a thread that cannot be stopped: whoever asks for the same host again waits for the
    look-up that is running, so that a dead name server takes one thread for each host and not one for each call.
    """

    def __init__(self, inner: AbstractResolver, seconds: float = RESOLVE_SECONDS) -> None:
        self._inner = inner
        self._seconds = seconds
        self._running: dict[_Wanted, asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        wanted = (host, port, family)
        running = self._running.get(wanted)
        if running is None:
            running = self._running[wanted] = asyncio.create_task(self._inner.resolve(host, port, family))
            running.add_done_callback(lambda task: self._forget(wanted, task))
        await asyncio.wait((running,), timeout=self._seconds)
        if not running.done():
            raise socket.gaierror(socket.EAI_AGAIN, f"no answer within {self._seconds:g} seconds")
        try:
            return running.result()
        except TimeoutError:  # would be taken for a connection that was not accepted
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from None
        except UnicodeError:  # an empty label or one of more than 63 letters cannot even be asked for
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None

    async def close(self) -> None:
        for task in tuple(self._running.values()):
            task.cancel()
        await self._inner.close()

    def _forget(self, wanted: _Wanted, task: asyncio.Task[list[ResolveResult]]) -> None:
        self._running.pop(wanted, None)
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more, and then it is not worth a warning
