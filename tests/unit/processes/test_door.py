"""Who connects to a model is never refused by the system: it is served, or turned away at once."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.processes.door import Door


@pytest.fixture
def path(short_path: Path) -> Path:
    return short_path / "m.sock"


@pytest.fixture
async def door(path: Path) -> AsyncIterator[Door]:
    made = Door(path)
    made.open()
    yield made
    made.close()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect(str(path))
    return client


async def test_only_this_user_may_connect(door: Door, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_knock_is_heard_and_left_to_the_process(door: Door, path: Path) -> None:
    knocking = asyncio.create_task(door.knock())
    await asyncio.sleep(0)
    assert not knocking.done()

    with connect(path) as client:
        await asyncio.wait_for(knocking, 5)
        client.sendall(b"hello")
        with socket.socket(fileno=socket.dup(door.descriptor())) as taken:
            server, _ = taken.accept()

    with server:
        assert server.recv(5) == b"hello"


async def test_who_connected_before_is_heard_too(door: Door, path: Path) -> None:
    with connect(path):
        await asyncio.wait_for(door.knock(), 5)


async def test_who_connects_in_vain_is_turned_away_at_once(door: Door, path: Path) -> None:
    with connect(path) as early:
        door.turn_away()
        with connect(path) as late:
            ends = await asyncio.gather(*(asyncio.to_thread(client.recv, 1) for client in (early, late)))

    assert ends == [b"", b""]


async def test_nobody_is_turned_away_once_they_may_wait(door: Door, path: Path) -> None:
    door.turn_away()
    door.let_wait()

    with connect(path):
        await asyncio.wait_for(door.knock(), 5)


async def test_opening_again_keeps_who_waits(door: Door, path: Path) -> None:
    with connect(path):
        door.open()

        await asyncio.wait_for(door.knock(), 5)


async def test_a_path_that_was_tidied_away_is_made_again(door: Door, path: Path) -> None:
    path.unlink()

    door.open()

    connect(path).close()


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))
    door = Door(path)

    door.open()

    connect(path).close()
    door.close()


async def test_a_directory_that_is_gone_is_an_error_and_nothing_is_open(path: Path) -> None:
    door = Door(path.parent / "none" / "m.sock")

    with pytest.raises(FileNotFoundError):
        door.open()
    with pytest.raises(OSError, match="not open"):
        door.descriptor()
    door.turn_away()
    door.close()
