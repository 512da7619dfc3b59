"""One HTTP worker process: `python -m gateway.processes.serving`, started by `parent.py` with its assignment on standard input.

It listens on its own sockets and ends in order: /readyz says 503 at once, new requests are still taken for the accept
grace, then running answers may finish within the grace, then they are broken off with an event that says so. A worker
that has nothing to answer when it is told to end passes over both graces.
What is answered is decided by the application alone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from aiohttp import http_parser, web

from gateway import logs
from gateway.mistakes import ConfigError
from gateway.processes.allocator import keep_freed_pages
from gateway.processes.assignment import Assignment
from gateway.processes.listening import BACKLOG, listen
from gateway.processes.supervision import Stop

try:
    import uvloop
except ImportError:  # not built for every platform
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_loop = uvloop.new_event_loop

BAD_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
CANNOT_RUN_HERE = 69  # sysexits.h: EX_UNAVAILABLE

KEEPALIVE_SECONDS = 75.0  # also the only deadline that aiohttp sets for a request's headers
CUT_SECONDS = 0.3  # how long a broken-off answer may take to say so
POLL_SECONDS = 0.02

# Imported before the assignment is there; none of them may import gateway.metrics (see `main`).
WARM_ROOMS = ("yaml", "gateway.auth", "gateway.providers", "gateway.routing")


class Drain(Protocol):
    """What the application is told when the process goes away."""

    def begin(self) -> None: ...

    def cut(self) -> None: ...


class Patience(Protocol):
    """The seconds of `server` in the configuration that matter at the end."""

    @property
    def accept_grace_seconds(self) -> float: ...

    @property
    def grace_seconds(self) -> float: ...


def main() -> int:
    """Wait for the assignment, serve it, return the exit code; no assignment means there is nothing to do."""
    keep_freed_pages()
    for room in WARM_ROOMS:
        import_module(room)
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    assignment = Assignment.decode(line)
    if assignment.metrics_dir:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = assignment.metrics_dir  # read when gateway.metrics is imported
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        logs.event("refused", level="error", reason="aiohttp's compiled parser is missing; its Python one is unsafe")
        return CANNOT_RUN_HERE
    with asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            return runner.run(_run(assignment))
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
            return BAD_CONFIGURATION


async def serve(
    application: web.Application, drain: Drain, listeners: Iterable[socket.socket], patience: Patience, stop: Stop
) -> None:
    """Answer requests until `stop` is asked for, then end as the module says; an insisting `stop` skips the graces."""
    from gateway.http import EnvelopeRunner  # it brings in gateway.metrics, which reads the environment

    runner = EnvelopeRunner(
        application,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=CUT_SECONDS,
    )
    await runner.setup()
    sites = [web.SockSite(runner, listener, backlog=BACKLOG) for listener in listeners]
    for site in sites:
        await site.start()
    sys.stdout.write(json.dumps({"event": "ready", "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await stop.asked.wait()
    drain.begin()
    await asyncio.sleep(0)  # what was accepted in the same moment becomes a request first
    if not all(map(_is_waiting, _connections(runner))):
        await _within(patience.accept_grace_seconds, stop.insisted)
    for site in sites:
        await site.stop()
    await _finish(runner, patience.grace_seconds, stop.insisted)
    drain.cut()
    _break_off(runner)
    await _finish(runner, CUT_SECONDS, asyncio.Event())
    await runner.cleanup()


async def _run(assignment: Assignment) -> int:
    from gateway.app import DRAIN, build  # after the environment is set
    from gateway.config import parse

    stop = Stop()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.asked.set)  # twice means the same: service managers signal everyone
    loop.add_signal_handler(signal.SIGINT, _insist, stop)
    loop.add_reader(sys.stdin.fileno(), _leave, stop, loop)
    config = parse(assignment.text, assignment.file, environ=os.environ, host=assignment.host, port=assignment.port)
    application = build(config, run_dir=Path(assignment.run_dir))
    _settle()
    await serve(application, application[DRAIN], listen(assignment.addresses), config.server, stop)
    return 0


def _settle() -> None:
    """Take what was built for good out of the garbage collector's sight and let it look less often.

    A request leaves a few hundred short-lived objects and hardly a cycle; at Python's usual thresholds looking for
    cycles takes 9 % of a worker's time (bench/design.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _within(seconds: float, event: asyncio.Event) -> None:
    if seconds > 0 and not event.is_set():
        waiting = asyncio.ensure_future(event.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()


async def _finish(runner: web.AppRunner, seconds: float, insisted: asyncio.Event) -> None:
    """Wait until every request that was begun has had its answer, closing connections as they fall idle.

    aiohttp's own shutdown stops reading first, so that a body still on its way would never arrive.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    await asyncio.sleep(0)  # what was accepted in the same moment becomes a request first
    while connections := _connections(runner):
        for connection in connections:
            if _is_waiting(connection):
                connection.force_close()
        if loop.time() >= until or insisted.is_set():
            return
        await _within(POLL_SECONDS, insisted)


def _is_waiting(connection: web.RequestHandler) -> bool:
    """Tell whether the connection has nothing to answer and waits for its next request."""
    return connection._waiter is not None and not connection._waiter.done()


def _break_off(runner: web.AppRunner) -> None:
    """Cancel what still runs while its connection is open, so that it can say why it ends.

    aiohttp itself cancels only after it closed the connection, when nothing can be said any more.
    """
    for connection in _connections(runner):
        if connection._task_handler is not None:
            connection._task_handler.cancel()


def _connections(runner: web.AppRunner) -> Sequence[web.RequestHandler]:
    return runner.server.connections if runner.server is not None else ()


def _insist(stop: Stop) -> None:
    stop.asked.set()
    stop.insisted.set()


def _leave(stop: Stop, loop: asyncio.AbstractEventLoop) -> None:
    """End as after SIGTERM when standard input closes: the parent process is gone."""
    if not os.read(sys.stdin.fileno(), 1):
        loop.remove_reader(sys.stdin.fileno())
        stop.asked.set()


if __name__ == "__main__":
    sys.exit(main())
