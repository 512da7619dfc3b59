"""What the drills of the fault table need, and the notes that the published failure matrix is made of."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.drill import KINDS, Drill, Kind, drill

BACK_TO_NOTHING_SECONDS = 5.0
NOTES_VARIABLE = "GATEWAY_FAULT_NOTES"  # a file that `make faults` reads; unset, nothing is written


def _held() -> set[object]:
    """Return what a drill may leave behind: the loop's tasks, the process's sockets and other files, its threads."""
    files = {f"{path.name} {path.readlink()}" for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    # The loop keeps its own threads, which look up names, until it ends.
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
    return files | threads | asyncio.all_tasks() - {asyncio.current_task()}


@pytest.fixture(autouse=True)
async def everything_is_given_back() -> AsyncIterator[None]:
    """Check that no task, socket, file or thread is left over when a drill has ended."""
    before = _held()
    loop = asyncio.get_running_loop()

    yield

    until = loop.time() + BACK_TO_NOTHING_SECONDS
    while (left := _held() - before) and loop.time() < until:
        await asyncio.sleep(0.01)
    assert left == set(), "left over"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Return each kind of request in turn."""
    return request.param  # type: ignore[no-any-return]  # one of KINDS


@pytest.fixture
def note(request: pytest.FixtureRequest, kind: Kind) -> Callable[[str, str], None]:
    """Return what writes down what a caller saw: under the test's row and title, its kind, and a column."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a drill says which row of the fault table it is: @pytest.mark.fault('F1', 'title')"
    row, title = mark.args

    def write(column: str, words: str) -> None:
        if path := os.environ.get(NOTES_VARIABLE):
            with Path(path).open("a", encoding="utf-8") as notes:
                notes.write(
                    json.dumps({"row": row, "fault": title, "kind": kind, "column": column, "seen": words}) + "\n"
                )

    return write


Open = Callable[..., AbstractAsyncContextManager[Drill]]


@pytest.fixture
def open_drill(kind: Kind, note: Callable[[str, str], None]) -> Open:
    """Return what opens a drill of this test's kind: `async with open_drill(sound=True) as it`."""

    def opened(**options: Any) -> AbstractAsyncContextManager[Drill]:
        return drill(kind, note, **options)

    return opened


@pytest.fixture
async def alone(open_drill: Open) -> AsyncIterator[Drill]:
    async with open_drill(sound=False) as it:
        yield it


@pytest.fixture
async def pair(open_drill: Open) -> AsyncIterator[Drill]:
    async with open_drill(sound=True) as it:
        yield it
