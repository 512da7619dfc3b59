"""What tests of model processes share: a directory for sockets, and model processes that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.processes.memory import Budget
from gateway.processes.model_plan import ModelPlan
from gateway.processes.model_process import ModelProcess
from gateway.processes.supervision import Stop, Timing

Make = Callable[..., ModelProcess]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for sockets."""
    with TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes model processes, and ends them after the test."""
    made: list[ModelProcess] = []

    def make_one(wanted: ModelPlan, timing: Timing = Timing(), budget: Budget | None = None) -> ModelProcess:  # noqa: B008
        made.append(ModelProcess(wanted, timing, budget or Budget()))
        return made[-1]

    yield make_one
    for model in made:
        await model.end(Stop())
