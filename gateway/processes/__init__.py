"""The parent process and its children: HTTP workers on one port, one process for each local model, signals.

    parent.py         reads the configuration, keeps the children alive, ends them in order
    layout.py         from a configuration to what is to run
    children.py       the workers
    model_process.py  one local model: loaded, unloaded, loaded again
    model_plan.py     what is known of a model before its process runs
    door.py           its socket, held by the parent while processes come and go
    memory.py         what loaded models may take together
    vigil.py          the watch over a model's process
    supervision.py    backoff, keeping alive, stopping
    listening.py      the port, held by the parent and shared by the workers
    assignment.py     what the parent hands to a worker
    serving.py        the worker itself: `python -m gateway.processes.serving`

What is answered is decided in `app.py`; the model program is in `worker/`. The functions here import when called,
because the parent's start is in the shadow of its first worker's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.processes.model_plan import ModelPlan


def run(file: Path, host: str | None, port: int | None) -> int:
    """Serve the configuration of `file` until a signal ends it, and return the exit code."""
    from gateway.processes.parent import run as run_parent

    return run_parent(file, host, port)


def plan_models(config: Config, run_dir: Path) -> Iterator[ModelPlan]:
    """Yield a plan for each model of the local providers that are on."""
    from gateway.processes.layout import plan_models as plan

    return plan(config, run_dir)
