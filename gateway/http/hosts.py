"""Which Host names are ours: a page in the operator's browser cannot choose what it sends as one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import web

from gateway.errors import UnknownHost

_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")
_MOST_REMEMBERED = 1000


class Hosts:
    """Refuses requests whose Host names another site.

    IP addresses and loopback names are always right. With `any_name` every well-formed name is, for servers that
    listen beyond loopback, where a key is required and names are the operator's to choose.
    """

    def __init__(self, names: Iterable[str] = (), *, any_name: bool = False) -> None:
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._any_name = any_name
        self._seen: set[str] = set()

    def check(self, request: web.Request) -> None:
        """Raise UnknownHost unless the request's one Host header may stand there."""
        host = request.headers.get("Host", "")
        if host in self._seen:
            return
        if not self.allows(host) or len(request.headers.getall("Host", ())) != 1:
            raise UnknownHost(
                "This gateway does not answer for that host name. Add it to server.allowed_hosts to accept it."
            )
        if len(self._seen) < _MOST_REMEMBERED:
            self._seen.add(host)

    def allows(self, host: str) -> bool:
        """Tell whether a Host header of this text, with or without a port, is ours."""
        name, _, port = host.rpartition(":") if ":" in host.rpartition("]")[2] else (host, "", "")
        name = name.lower().rstrip(".")
        if port and not port.isdigit():
            return False
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return self._any_name and bool(name) and not set(name) - _CHARACTERS
        return True
