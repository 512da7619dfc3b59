"""Where a Redis is, by its URL. Its host's name is looked up in a thread of its own, never twice at once.

The event loop's threads are few and serve all lookups, and a process does not end before they do: a name server that
does not answer would hold up both. Connecting is not done here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

_OF_POOLS = ("max_connections", "timeout")  # redis-py's own pools read these from a URL
LookUp = Callable[[str], list[str]]


def look_up(host: str) -> list[str]:
    """Return the addresses of a host, the preferred ones first; raise OSError, after however long it takes."""
    found: list[Any] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(address for *_, (address, *_) in found))


class Name:
    """The name of a host, which may be an address already."""

    def __init__(self, host: str, look_up: LookUp) -> None:
        self._host = host
        self._look_up = look_up
        self._looking: Future[list[str]] | None = None

    async def addresses(self) -> list[str]:
        """Return the addresses, of the lookup that is under way if there is one; whoever gives up leaves it to the next."""
        if _is_address(self._host):
            return [self._host]
        if self._looking is None:
            self._looking = Future()
            self._looking.set_running_or_notify_cancel()  # who stops waiting for it does not undo it
            threading.Thread(target=self._find, args=(self._looking,), name="redis-name", daemon=True).start()
        looking = self._looking
        try:
            return await asyncio.wrap_future(looking)
        finally:
            if looking.done() and self._looking is looking:
                self._looking = None

    def _find(self, looking: Future[list[str]]) -> None:
        try:
            looking.set_result(self._look_up(self._host))
        except Exception as error:  # noqa: BLE001  whoever asks is told
            looking.set_exception(error)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is: `make(address)` makes a connection that is not open yet, `name` is None for a socket's path."""

    make: Callable[[str], Any]
    name: Name | None
    refusals: tuple[type[Exception], ...]


def place_of(url: SecretStr, find: LookUp) -> Place:
    """Return where that is; raises ValueError for a URL that is none."""
    from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
    from redis.exceptions import ConnectionError as Refusal

    told: dict[str, Any] = {**parse_url(url.get_secret_value())}
    kind: Callable[..., Any] = told.pop("connection_class", Connection)
    for name in _OF_POOLS:
        told.pop(name, None)
    # Whoever waits has a limit of their own around all waiting, so redis-py needs none, and it tries nothing again.
    told |= {
        "protocol": 2,
        "driver_info": None,
        "decode_responses": False,
        "health_check_interval": 0,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": None,
        "retry_on_timeout": False,
    }
    if kind is UnixDomainSocketConnection:
        return Place(lambda _: kind(**told), None, ())

    class At(kind):  # type: ignore[misc, valid-type]  # one of two, by the URL
        address = ""

        def _connection_arguments(self) -> dict[str, Any]:
            arguments = {**super()._connection_arguments(), "host": self.address}
            return {**arguments, "server_hostname": self.host} if "ssl" in arguments else arguments

    def make(address: str) -> Any:
        connection = At(**told)
        connection.address = address
        return connection

    return Place(make, Name(told.setdefault("host", "localhost"), find), (Refusal,))
