"""The parent process: checks the configuration, holds the port, keeps workers and models alive, ends them in order.

It answers no request itself. How one process is kept alive lives in `supervision.py`, what the two kinds of process
are in `children.py`, and what a worker does in `serving.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gateway import __version__, logs
from gateway.mistakes import ConfigError
from gateway.processes.assignment import Assignment
from gateway.processes.children import HttpWorker, program
from gateway.processes.listening import PortTaken, reserve, url_of
from gateway.processes.memory import Budget
from gateway.processes.model_process import ModelProcess
from gateway.processes.supervision import Backoff, Hopeless, Life, Rest, Stop, Timing, cause_of, keep_alive
from gateway.rundir import run_directory

if TYPE_CHECKING:  # see _serve
    from gateway.processes.layout import Layout

BAD_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
FAILED = 1

MARGIN_SECONDS = 3.0  # a worker that has not ended this long after its graces is told to, and then killed


class CannotStart(Hopeless):
    """Nothing has served yet and nothing will; the text is a line for the operator, `code` the exit code."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


class Fleet:
    """Every child of this gateway; all have ended when the context is left."""

    def __init__(self, stop: Stop, timing: Timing, backoff: Backoff) -> None:
        self._stop = stop
        self._timing = timing
        self._backoff = backoff
        self._workers: list[HttpWorker] = []
        self._models: list[ModelProcess] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._patience_seconds = 0.0
        self._metrics_dir = ""
        self._url = ""
        self._has_served = False

    async def __aenter__(self) -> Self:
        """Start the interpreter of the first worker, so that its imports overlap with reading the configuration."""
        with _needed("No process can be started"):
            await self._new_worker().start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the workers, which finish their answers, and then the models that they speak to."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(worker.end(self._stop, self._patience_seconds) for worker in self._workers))
        await asyncio.gather(*(model.end(self._stop) for model in self._models))

    def start(self, layout: Layout, assignment: Assignment, url: str) -> None:
        """Start all that `layout` asks for and keep it alive; `url` is said once the first worker listens."""
        self._patience_seconds = layout.patience_seconds + MARGIN_SECONDS
        self._metrics_dir = assignment.metrics_dir
        self._url = url
        while len(self._workers) < layout.workers:
            self._new_worker()
        for worker in self._workers:
            self._keep(partial(worker.live, assignment), worker.rest)
        budgets = {provider: Budget(limit) for provider, limit in layout.memory.items()}
        for plan in layout.models:
            model = ModelProcess(plan, self._timing, budgets[plan.provider])
            self._models.append(model)
            self._keep(model.live, model.rest)

    async def until_stopped(self) -> None:
        """Wait for the wish to end; raises CannotStart when a worker ended before any had served."""
        asked = asyncio.create_task(self._stop.asked.wait())
        done, _ = await asyncio.wait({asked, *self._keepers}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for task in done - {asked}:
            task.result()

    def _new_worker(self) -> HttpWorker:
        worker = HttpWorker(program("gateway.processes.serving"), self._note_ready, self._note_death)
        self._workers.append(worker)
        return worker

    def _keep(self, live: Life, rest: Rest) -> None:
        self._keepers.append(asyncio.create_task(keep_alive(live, rest, self._backoff, self._timing)))

    def _note_ready(self, pid: int) -> None:
        if not self._has_served:
            self._has_served = True
            _announce(self._url)
        logs.event("worker_ready", pid=pid)

    def _note_death(self, pid: int, code: int) -> None:
        if not self._has_served:
            raise CannotStart(f"An HTTP worker could not start ({cause_of(code)}).", code if code > 0 else FAILED)
        logs.event("worker_ended", level="error", pid=pid, cause=cause_of(code))
        if self._metrics_dir:
            from gateway.metrics import forget_process  # prometheus_client is not needed in this process before

            forget_process(Path(self._metrics_dir), pid)


def run(file: Path, host: str | None, port: int | None) -> int:
    """Serve the configuration of `file` until a signal ends it, and return the exit code.

    78: the configuration is wrong, one line on standard error for each mistake. 1: the port or a temporary directory
    cannot be had, or a worker could not start. `host` and `port` win over the configuration; port 0 takes a free one.
    """
    return asyncio.run(_run(file, host, port))


async def _run(file: Path, host: str | None, port: int | None) -> int:
    stop = Stop()
    stays_when_hung_up = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # started by nohup
    for word in (signal.SIGTERM, signal.SIGINT, *(() if stays_when_hung_up else (signal.SIGHUP,))):
        asyncio.get_running_loop().add_signal_handler(word, stop.ask)
    try:
        with ExitStack() as at_end:
            with _needed("No temporary directory can be made; set TMPDIR to one that may be written"):
                run_dir = at_end.enter_context(run_directory())
            async with Fleet(stop, Timing(), Backoff()) as fleet:
                await _serve(fleet, run_dir, file, host, port)
    except ConfigError as error:
        return _fail(str(error), BAD_CONFIGURATION)
    except PortTaken as error:
        return _fail(str(error), FAILED)
    except CannotStart as error:
        return _fail(str(error), error.code)
    logs.event("stopped")
    return 0


@contextmanager
def _needed(sentence: str) -> Iterator[None]:
    """Turn an OSError into CannotStart: without this there is no gateway."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"{sentence}: {error.strerror or error}.") from error


async def _serve(fleet: Fleet, run_dir: Path, file: Path, host: str | None, port: int | None) -> None:
    from gateway.config import parse, read_file  # these take longest to import; the first worker starts meanwhile
    from gateway.processes.layout import lay_out

    text = read_file(file)
    layout = lay_out(parse(text, str(file), environ=os.environ, host=host, port=port), run_dir, today=date.today())  # noqa: DTZ011  # by the day, anywhere
    for line in layout.notes:
        logs.event("note", text=line)
    for line in layout.warnings:
        logs.event("warning", level="warning", text=line)
    with closing(reserve(layout.host, layout.port)) as held:
        metrics_dir = _metrics_dir(run_dir, layout.workers)
        assignment = Assignment(str(file), text.decode(), host, port, held.addresses, str(run_dir), metrics_dir)
        fleet.start(layout, assignment, url_of(layout.host, held.addresses))
        await fleet.until_stopped()
    logs.event("stopping")


def _metrics_dir(run_dir: Path, workers: int) -> str:
    """Return where several workers put their figures together, "" for a single one."""
    if workers == 1:
        return ""
    path = run_dir / "metrics"
    path.mkdir()
    return str(path)


def _announce(url: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"gateway {__version__} is listening on {url} (Ctrl-C ends it)\n")
    else:
        logs.event("listening", url=url, version=__version__)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code
