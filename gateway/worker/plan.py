"""The defaults of the worker: what to ask of an engine for this model on this machine. The reasons are in design.md."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.worker.engine import ConcreteName, Plan
from gateway.worker.gguf_header import GgufSummary
from gateway.worker.settings import LONGEST_SOCKET_BYTES, WorkerSettings

DEFAULT_WINDOW = 8192
POOLING_NONE = 0


def make_plan(settings: WorkerSettings, summary: GgufSummary, cores: int, engine: ConcreteName = "xllamacpp") -> Plan:
    """Return what `engine` is to run; a window beyond the one that the model was trained for is cut to it."""
    trained = summary.context_length or DEFAULT_WINDOW
    return Plan(
        model=settings.model,
        socket=settings.socket,
        name=settings.name,
        threads=settings.threads or max(1, cores - 1),
        slots=1 if _is_alone(settings, engine) else settings.slots,
        context_window=min(settings.context_window or DEFAULT_WINDOW, trained),
        embedding=settings.embedding,
        mean_pooling=settings.embedding and not settings.rerank and summary.pooling in (None, POOLING_NONE),
        rerank=settings.rerank,
        gpu_layers=settings.gpu_layers,
    )


def _is_alone(settings: WorkerSettings, engine: ConcreteName) -> bool:
    """Tell whether requests are computed one after the other.

    Alone in its batch an input gets the same vector every time; in company it differs in the third digit. The other
    engine takes inputs one by one whatever is asked for, and there callers take turns.
    """
    return settings.exclusive or settings.rerank or (settings.embedding and engine == "xllamacpp")


def engine_socket(front: Path) -> Path:
    """Return where an engine with a socket of its own listens, beside that of its front."""
    path = front.with_name(f"{front.stem}-engine.sock")
    is_short = len(os.fsencode(path)) <= LONGEST_SOCKET_BYTES
    return path if is_short else front.with_name(f"{front.stem}-e.sock")


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
