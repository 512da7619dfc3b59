"""The load generator against servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench import canned
from bench.load import MOST_FAULTS, Crew
from bench.upstream import Answers, Connection


@asynccontextmanager
async def listening(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Refusing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}")


class Leaving(Refusing):
    def data_received(self, data: bytes) -> None:
        self.transport.close()


class Silent(Refusing):
    def data_received(self, data: bytes) -> None:
        pass


@pytest.mark.parametrize("request_", [canned.CHAT, canned.STREAM, canned.EMBEDDING], ids=lambda request: request.name)
async def test_every_request_is_answered_and_counted(request_: canned.Request) -> None:
    answers = Answers()

    async with listening(lambda: Connection(answers)) as port, Crew(port, request_, connections=3) as crew:
        first = await crew.send(10)
        second = await crew.send(2)

    assert (first.sent, first.answered, first.faults) == (10, 10, [])
    assert (second.sent, second.answered, second.faults) == (2, 2, [])


async def test_a_trickled_stream_is_read_to_its_end() -> None:
    answers = Answers()

    async with listening(lambda: Connection(answers)) as port, Crew(port, canned.TRICKLED, connections=2) as crew:
        tally = await crew.send(2)

    assert (tally.answered, tally.faults) == (2, [])


async def test_wrong_answers_are_faults_and_end_the_load_early() -> None:
    async with listening(Refusing) as port, Crew(port, canned.CHAT, connections=2) as crew:
        tally = await crew.send(1000)

    assert tally.answered == 0
    assert MOST_FAULTS <= len(tally.faults) <= MOST_FAULTS + 2
    assert "500 Oops" in tally.faults[0]


async def test_broken_connections_are_faults_and_end_the_load() -> None:
    async with listening(Leaving) as port, Crew(port, canned.CHAT, connections=2) as crew:
        tally = await crew.send(1000)

    assert tally.answered == 0
    assert len(tally.faults) == 2
    assert "connection lost" in tally.faults[0]


async def test_silence_ends_at_the_deadline() -> None:
    async with listening(Silent) as port, Crew(port, canned.CHAT, connections=2) as crew:
        tally = await crew.send(2, deadline_seconds=0.05)

    assert tally.answered == 0
    assert "0 of 2 answered" in tally.faults[0]
