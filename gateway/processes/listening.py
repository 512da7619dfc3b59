"""Ports: resolve a host, hold its port for this gateway, open it in each worker.

The parent process holds the port with sockets that never listen, so that the number stays ours while workers come and
go; each worker opens listeners of its own and the kernel spreads the connections over them.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BACKLOG = 2048

# A machine without IPv6 still resolves localhost to ::1; such an address is left out if another one works.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True)
class Address:
    """A numeric address and port of one family; `scope` is the zone of a link-local IPv6 address."""

    host: str
    port: int
    scope: int = 0

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def name(self) -> tuple[str, int] | tuple[str, int, int, int]:
        return (self.host, self.port, 0, self.scope) if ":" in self.host else (self.host, self.port)


class PortTaken(Exception):
    """The port cannot be had; the message says which and why."""


class Reservation:
    """The port of this gateway, held until closed; `addresses` have the port that was chosen when 0 was asked for."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = tuple(sockets)
        self.addresses = tuple(_address_of(held) for held in sockets)

    def close(self) -> None:
        for held in self._sockets:
            held.close()


def reserve(host: str, port: int) -> Reservation:
    """Hold `port` on every address of `host`; raises PortTaken with a line for the operator."""
    held: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        trouble: OSError | None = None
        for address in _resolve(host, port):
            wanted = Address(address.host, held[0].getsockname()[1] if held else port, address.scope)
            try:
                if wanted.port:
                    _bind(wanted, share=False).close()  # sharing would hide another gateway on the same port
                held.append(undo.enter_context(_bind(wanted, share=True)))
            except OSError as error:
                trouble = error
                if error.errno not in _NOT_HERE:
                    raise PortTaken(_sentence(host, port, error)) from error
        if not held:
            raise PortTaken(_sentence(host, port, trouble))
        undo.pop_all()
    return Reservation(held)


def listen(addresses: Iterable[Address]) -> list[socket.socket]:
    """Open a listener on each of the reserved `addresses`."""
    listeners = []
    for address in addresses:
        listener = _bind(address, share=True)
        listener.listen(BACKLOG)
        listener.settimeout(0)  # the event loop waits, not the socket
        listeners.append(listener)
    return listeners


def url_of(host: str, addresses: Sequence[Address]) -> str:
    """Return the URL under which callers reach the gateway."""
    name = _bare(host)
    return f"http://[{name}]:{addresses[0].port}" if ":" in name else f"http://{name}:{addresses[0].port}"


def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(_bare(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or half a character
        raise PortTaken(_sentence(host, port, error)) from error
    known = [(family, name) for family, _, _, _, name in found if family in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys(_address(name) for _, name in known))


def _bind(address: Address, *, share: bool) -> socket.socket:
    made = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share and hasattr(socket, "SO_REUSEPORT"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address.name)
    except OSError:
        made.close()
        raise
    return made


def _address(name: Sequence[object]) -> Address:
    host, port, *rest = name
    return Address(str(host), int(str(port)), int(str(rest[1])) if rest else 0)


def _address_of(held: socket.socket) -> Address:
    return _address(held.getsockname())


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")


def _sentence(host: str, port: int, error: Exception | None) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use by another program; choose another with --port or server.port."
    if isinstance(error, OSError) and error.errno == errno.EACCES:
        return f"Port {port} on {host} needs privileges that this user does not have; choose one above 1023."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error or "no address found")
    return f"Cannot listen on {host} port {port}: {reason}."
