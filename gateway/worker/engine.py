"""What an engine is to the worker, and the choice between engines.

An engine's package is imported by `start` alone, so that asking costs nothing and happens in any process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from gateway.worker.reports import EXIT_NO_ENGINE, Failure

EngineName = Literal["auto", "xllamacpp"]
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
ConcreteName = Literal["xllamacpp"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided about one model before an engine sees it.

    `context_window` is in tokens and holds for each of `slots` requests at once. `mean_pooling` asks for it where the
    model does not say how its token vectors become one.
    """

    model: Path
    socket: Path
    name: str
    threads: int
    slots: int
    context_window: int
    embedding: bool
    mean_pooling: bool


class Running(Protocol):
    """A model that is served; it ends with the process."""


class Engine(Protocol):
    """One binding of llama.cpp."""

    @property
    def name(self) -> ConcreteName: ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that must be set before `start` imports anything."""
        ...

    def why_unavailable(self) -> str | None:
        """Return why this engine does not run here, as one clause; None when it does."""
        ...

    def start(self, plan: Plan) -> Running:
        """Load the model and begin to serve the OpenAI wire on `plan.socket`; return once it listens.

        Blocks, without letting other Python threads run, for as long as loading takes. Raises Failure.
        """
        ...


def engines() -> tuple[Engine, ...]:
    """Return every engine, the preferred one first."""
    from gateway.worker.xllamacpp_engine import XllamaCpp  # the engines know this file

    return (XllamaCpp(),)


def choose(name: EngineName) -> Engine:
    """Return the engine called `name`, for `auto` the first one that runs here; raises Failure."""
    reasons = []
    for engine in engines():
        if name in ("auto", engine.name):
            reason = engine.why_unavailable()
            if reason is None:
                return engine
            reasons.append(f"{engine.name}: {reason}")
    raise Failure("no engine can run: " + "; ".join(reasons), EXIT_NO_ENGINE)


def why_unavailable(name: EngineName = "auto") -> str | None:
    """Return why no engine of this name runs on this machine, as one clause; None when one does."""
    try:
        choose(name)
    except Failure as failure:
        return str(failure)
    return None
