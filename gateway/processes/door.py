"""The Unix socket of one local model, which the parent keeps while the processes behind it come and go.

Nobody who connects is refused by the system: the connection waits in the socket until a process takes it, or until this
one turns it away because none will. When a process is started is decided in `model_process.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from gateway.processes.listening import BACKLOG


class Door:
    """A listening socket at `path`, which nobody but this user can connect to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen, if that was not begun; whatever else stands at the path is replaced. Raises OSError."""
        if self._socket is not None and self._is_in_place():
            return
        self.close()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            made.bind(str(self._path))
            self._path.chmod(0o600)  # its directory is private, so nobody was quicker
            made.listen(BACKLOG)
            made.settimeout(0)
        except OSError:
            made.close()
            raise
        self._socket = made

    async def knock(self) -> None:
        """Wait until somebody has connected, and leave that connection to the process that is started for it."""
        heard = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listening(), heard.set)
        try:
            await heard.wait()
        finally:
            loop.remove_reader(self._listening())

    def turn_away(self) -> None:
        """Close every connection, also those that wait, until `let_wait`: no process will take them soon."""
        if self._socket is not None:
            self._socket.settimeout(0)  # the process shares this setting and may have changed it
            asyncio.get_running_loop().add_reader(self._socket, self._close_one)

    def let_wait(self) -> None:
        """Touch no connection any more: a process takes them, or somebody who knocks is waited for."""
        asyncio.get_running_loop().remove_reader(self._listening())

    def descriptor(self) -> int:
        """Return what a process needs to take the connections."""
        return self._listening().fileno()

    def close(self) -> None:
        """Listen no more; harmless when that is so."""
        if self._socket is not None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and its readers with it
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _listening(self) -> socket.socket:
        if self._socket is None:
            raise OSError(f"{self._path} is not open")
        return self._socket

    def _is_in_place(self) -> bool:
        """Tell whether the path still leads here; a process that ended may have tidied it away."""
        return self._path.is_socket()

    def _close_one(self) -> None:
        with contextlib.suppress(OSError):  # it went away by itself
            self._listening().accept()[0].close()
