"""Forgetting what is in Redis: a walk through its keys in small steps, between which Redis serves others.

Which space an entry is of stands in the head of its value, so nothing has to be kept for this besides the entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.cache.entry import KEY_BYTES, SPACE_BYTES, Entry, pack
from gateway.cache.keys import make_space
from gateway.cache.redis_lines import Line, Lines
from gateway.cache.redis_words import PREFIX, NotRedis, command
from gateway.cache.redis_writing import Writing

KEYS_IN_A_STEP = 500
STEP_SECONDS = 1.0
SETTLING_SECONDS = 2.0

_UP_TO_SPACE = pack(Entry(b"k" * KEY_BYTES, bytes(SPACE_BYTES), b"")).index(b"k" * KEY_BYTES)
_HEAD_BYTES = _UP_TO_SPACE + KEY_BYTES + SPACE_BYTES


async def clear(lines: Lines, writing: Writing, label: str | None, *, failed: Callable[[Exception], None]) -> int:
    """Forget all entries, or those of one label; return how many. `failed` is told why it ended early."""
    space = None if label is None else make_space(scope="", label=label, revision="", fields={}).id
    writing.forget(space)
    cursor, gone = b"0", 0
    try:
        async with asyncio.timeout(SETTLING_SECONDS):
            await writing.settle()  # or it would be there again afterwards
        while True:
            async with lines.lend(patiently=True) as line, asyncio.timeout(STEP_SECONDS):
                cursor, names = await _step(line, cursor)
                if names := await _of_space(line, names, space):
                    gone += int(await _ask(line, command(b"UNLINK", *names)))
            if cursor == b"0":
                return gone
            await asyncio.sleep(0)
    except Exception as error:  # noqa: BLE001  a tier fails nobody
        failed(error)
        return gone


async def _step(line: Line, cursor: bytes) -> tuple[bytes, list[bytes]]:
    reply = await _ask(line, command(b"SCAN", cursor, b"MATCH", PREFIX + b"*", b"COUNT", b"%d" % KEYS_IN_A_STEP))
    if not isinstance(reply, list) or len(reply) != 2:
        raise NotRedis
    return reply[0], reply[1]


async def _of_space(line: Line, names: list[bytes], space: bytes | None) -> list[bytes]:
    if space is None or not names:
        return names
    until = b"%d" % (_HEAD_BYTES - 1)
    await line.send(b"".join(command(b"GETRANGE", name, b"0", until) for name in names))
    heads = await line.read_all(len(names))  # what is of another type refuses, and is not of the space
    return [name for name, head in zip(names, heads, strict=True) if _is_of(head, name, space)]


def _is_of(head: object, name: bytes, space: bytes) -> bool:
    return head == pack(Entry(name.removeprefix(PREFIX), space, b""))[:_HEAD_BYTES]


async def _ask(line: Line, packed: bytes) -> Any:
    await line.send(packed)
    return await line.read()
