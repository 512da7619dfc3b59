"""Plays an answer on a connection, byte for byte as written, also where that breaks HTTP."""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus

from .answer import Answer, Framing
from .seen import SeenRequest
from .steps import Ending, Gate, Pause, Repeated, Step

_BODILESS = {204, 304}


class Player:
    """Writes answers to one connection.

    `left_first` becomes true as soon as it is this side that ends the connection.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        # With no room in the buffer `drain` waits until the system has every byte, so that a reset loses none.
        # TLS transports never resume from a limit of 0.
        writer.transport.set_write_buffer_limits(high=0 if writer.get_extra_info("ssl_object") is None else 1, low=0)
        self.left_first = False

    async def play(self, answer: Answer, request: SeenRequest) -> bool:
        """Play the answer to its end; returns whether the connection can take another request."""
        for step in answer.before_head:
            if not await self._take(step, chunked=False):
                return False
        if answer.status is None:
            return False
        await self._write(_head(answer))
        if request.method == "HEAD" or answer.status in _BODILESS:
            return not request.wants_close
        chunked = answer.framing is Framing.CHUNKED
        for step in answer.parts:
            if not await self._take(step, chunked=chunked):
                return False
        if chunked:
            await self._write(b"0\r\n\r\n")
        return not (request.wants_close or answer.framing is Framing.CLOSE or _says_close(answer))

    async def write_continue(self) -> None:
        await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def reset(self) -> None:
        """End the connection by RST."""
        self.left_first = True
        connection = self._writer.get_extra_info("socket")
        is_closed = self._writer.transport.is_closing()
        if not is_closed and connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """End the connection by FIN, after what was written."""
        self.left_first = True
        self._writer.close()

    async def _take(self, step: Step, *, chunked: bool) -> bool:
        """Play one step; returns whether there may be another."""
        match step:
            case bytes():
                await self._write(_chunk(step) if chunked else step)
            case Gate():
                await step.wait()
            case Pause():
                await asyncio.sleep(step.seconds)
            case Repeated():
                await self._repeat(step, chunked=chunked)
            case Ending.RESET:
                self.reset()
            case Ending.CLOSE:
                self.close()
            case Ending.HANG:
                await asyncio.get_running_loop().create_future()  # the connection's end cancels it
        return not isinstance(step, Ending)

    async def _repeat(self, step: Repeated, *, chunked: bool) -> None:
        piece = _chunk(step.piece) if chunked else step.piece
        left = step.times
        while left is None or left > 0:
            await self._write(piece)
            await asyncio.sleep(step.every_seconds)
            left = None if left is None else left - 1

    async def _write(self, piece: bytes) -> None:
        self._writer.write(piece)
        await self._writer.drain()
        await asyncio.sleep(0)  # so that a client on the same loop may read this piece before the next


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


def _says_close(answer: Answer) -> bool:
    return (answer.header("Connection") or "").lower() == "close"


def _head(answer: Answer) -> bytes:
    assert answer.status is not None
    try:
        reason = HTTPStatus(answer.status).phrase
    except ValueError:
        reason = "Scripted"
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if answer.framing is Framing.CHUNKED:
        lines.append("Transfer-Encoding: chunked")
    elif answer.framing is Framing.CLOSE:
        lines.append("Connection: close")
    elif answer.status not in _BODILESS:
        lines.append(f"Content-Length: {answer.length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
