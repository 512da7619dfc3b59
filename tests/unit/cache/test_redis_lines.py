"""The connections to Redis: few, opened one after another, each lent to one at a time and cut when in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from gateway.cache.redis_lines import MOST_LINES, Line, Lines, NoLine, NotOpened
from gateway.cache.redis_words import command
from tests.support.redis_server import free_port
from tests.support.redis_tier import until
from tests.support.sockets import serving


class Echo:
    """Answers each command with its number, and counts who is connected."""

    def __init__(self) -> None:
        self.connected = 0
        self.most = 0
        self.opened = 0
        self.commands = 0
        self.silent = False

    async def act(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        self.opened += 1
        self.most = max(self.most, self.connected)
        try:
            while await reader.read(65_536):
                self.commands += 1
                if not self.silent:
                    writer.write(b":%d\r\n" % self.commands)
        finally:
            self.connected -= 1


class Stood:
    """Lines to an echo, a clock to be set, and what could not be opened."""

    def __init__(self, port: int) -> None:
        self.now = 0.0
        self.not_opened: list[Exception] = []
        url = SecretStr(f"redis://127.0.0.1:{port}")
        self.lines = Lines(url, patience=0.05, clock=lambda: self.now, not_opened=self.not_opened.append)

    async def ask(self) -> object:
        async with self.lines.lend() as line:
            return await asked(line)


async def asked(line: Line) -> object:
    await line.send(command(b"PING"))
    return await line.read()


@asynccontextmanager
async def standing() -> AsyncIterator[tuple[Stood, Echo]]:
    echo = Echo()
    async with serving(echo.act) as port:
        stood = Stood(port)
        try:
            yield stood, echo
        finally:
            await stood.lines.close()


async def test_a_line_is_used_again() -> None:
    async with standing() as (stood, echo):
        assert [await stood.ask() for _ in range(5)] == [1, 2, 3, 4, 5]
        assert echo.opened == 1


async def test_there_are_never_more_than_the_most() -> None:
    async with standing() as (stood, echo):
        numbers = await asyncio.gather(*(stood.ask() for _ in range(100)))

        assert sorted(map(int, map(str, numbers))) == list(range(1, 101))
        assert 1 <= echo.most <= MOST_LINES


async def test_a_line_left_with_an_exception_is_cut() -> None:
    async with standing() as (stood, echo):
        with pytest.raises(LookupError):
            async with stood.lines.lend() as line:
                await line.send(command(b"PING"))
                raise LookupError

        assert await stood.ask() == 2
        await until(lambda: echo.connected == 1)
        assert echo.opened == 2


async def test_when_all_are_stuck_nobody_else_waits() -> None:
    async with standing() as (stood, echo):
        echo.silent = True
        stuck = [asyncio.create_task(stood.ask()) for _ in range(MOST_LINES)]
        await until(lambda: echo.commands == MOST_LINES)

        with pytest.raises(NoLine):
            await stood.ask()  # waits in vain for the time of its patience
        stood.now += 0.06
        with pytest.raises(NoLine):
            stood.ask().send(None)  # does not even pause

        for call in stuck:
            call.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_who_waits_gets_the_next_line_and_in_turn() -> None:
    async with standing() as (stood, _):
        order: list[int] = []

        async def call(number: int) -> None:
            async with stood.lines.lend() as line:
                order.append(number)
                await asked(line)

        await asyncio.gather(*(call(number) for number in range(50)))

        assert order == list(range(50))


async def test_a_line_that_comes_as_its_taker_leaves_goes_to_the_next() -> None:
    async with standing() as (stood, echo):
        await stood.ask()
        async with stood.lines.lend():
            for _ in range(MOST_LINES - 1):
                pass
            leaving = asyncio.create_task(stood.ask())
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

        numbers = await asyncio.gather(*(stood.ask() for _ in range(20)))

        assert len(set(numbers)) == 20
        assert echo.most <= MOST_LINES


async def test_what_cannot_be_opened_is_told_once_for_all_who_wait() -> None:
    stood = Stood(free_port())

    answers = await asyncio.gather(*(stood.ask() for _ in range(20)), return_exceptions=True)

    assert {type(answer) for answer in answers} == {NotOpened}
    assert len(stood.not_opened) == 1
    await stood.lines.close()


async def test_those_who_wait_can_be_let_go() -> None:
    async with standing() as (stood, echo):
        echo.silent = True
        stuck = [asyncio.create_task(stood.ask()) for _ in range(MOST_LINES)]
        await until(lambda: echo.commands == MOST_LINES)
        waiting = asyncio.create_task(stood.ask())
        await asyncio.sleep(0)

        stood.lines.release_the_waiting()

        with pytest.raises(NoLine):
            await waiting
        for call in stuck:
            call.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_closed_lines_stay_closed() -> None:
    async with standing() as (stood, echo):
        async with stood.lines.lend() as line:
            await asked(line)

            await stood.lines.close()

            with pytest.raises(ConnectionResetError):
                await line.send(command(b"PING"))
        with pytest.raises(NoLine):
            await stood.ask()
        await until(lambda: echo.connected == 0)
        assert echo.opened == 1
