"""What an engine is to the worker, and the choice between engines.

An engine's package is imported by `start` alone, so that asking costs nothing and happens in any process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from gateway.worker.reports import EXIT_NO_ENGINE, Failure

EngineName = Literal["auto", "xllamacpp", "llama-cpp-python"]
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
ConcreteName = Literal["xllamacpp", "llama-cpp-python"]
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided about one model before an engine sees it.

    `context_window` is in tokens and holds for each of `slots` requests at once. `mean_pooling` asks for it where the
    model does not say how its token vectors become one. `socket` is where the front listens; an engine that needs a
    socket of its own puts it beside. `gpu_layers` is how many layers a build with a GPU takes there, None for all it can.
    """

    model: Path
    socket: Path
    name: str
    threads: int
    slots: int
    context_window: int
    embedding: bool
    mean_pooling: bool
    rerank: bool = False
    gpu_layers: int | None = None


class Answer(Protocol):
    """What a model says to one request, in the wire of llama.cpp's server.

    Iterating gives the body as bytes, of a stream whole events up to `data: [DONE]`.
    """

    @property
    def status(self) -> int: ...
    @property
    def content_type(self) -> str: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None:
        """End the model's work for this request, within one step of it; harmless when it is over."""
        ...


class LoadedModel(Protocol):
    """A model that answers; its methods belong to the event loop of the front."""

    async def ask(self, path: str, body: Body) -> Answer:
        """Ask `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` or `/v1/rerank`; return when the status is known.

        Of a stream that is when its first event is there. What the model cannot take is an Answer whose status is 400
        or more. Cancelling ends the model's work for this request. Not more than `slots` requests are asked at once.
        """
        ...

    async def close(self) -> None: ...


class Engine(Protocol):
    """One binding of llama.cpp."""

    @property
    def name(self) -> ConcreteName: ...

    def why_unavailable(self) -> str | None:
        """Return why this engine does not run here, as one clause; None when it does."""
        ...

    def start(self, plan: Plan) -> LoadedModel:
        """Load the model; return once it can be asked.

        Blocks, without letting other Python threads run, for as long as loading takes. Raises Failure.
        """
        ...


def engines() -> tuple[Engine, ...]:
    """Return every engine, the preferred one first."""
    from gateway.worker.llama_cpp_python_engine import LlamaCppPython  # the engines know this file
    from gateway.worker.xllamacpp_engine import XllamaCpp

    return (XllamaCpp(), LlamaCppPython())


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
