"""`python -m bench`: run the harness, print its table, exit with 1 for a failure, or with --strict for a bound not held."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console

from bench import options, report
from bench.accounting import usable_cores
from bench.session import Session
from bench.stage import Stage
from bench.systems import BenchError


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    asked = options.parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    progress = Console(stderr=True)
    signal.signal(signal.SIGTERM, _end)
    began = time.monotonic()
    busy = report.busy_remark(os.getloadavg()[0])
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stage = Stage(Path(directory), usable_cores(), asked.gateway_command)
        session = Session(stage, asked, lambda text: progress.print(f"… {text}", style="dim", highlight=False))
        failure = ""
        try:
            if asked.profile is not None:
                console.print("\n".join(session.profile(asked.profile)), highlight=False, markup=False, soft_wrap=True)
                return 0
            session.measure()
        except (BenchError, OSError, psutil.Error) as error:  # the latter: a process ended under its measurement
            failure = str(error)
    found = session.found  # what was measured before a failure is shown all the same
    seconds = time.monotonic() - began
    tables = [report.table(found.rows, title="the gateway beside raw")] if found.rows else []
    if found.nginx:
        tables.append(report.table(found.nginx, title="nginx proxy_pass: what no proxy goes below", column="nginx"))
    machine = ", ".join(f"{name} {value}" for name, value in report.machine().items())
    report.show(tables, [*found.remarks, busy, f"{machine}; {seconds:.0f} s"], console)
    if asked.json is not None:
        asked.json.write_text(json.dumps(report.document(found.rows, found.turns, seconds), indent=1) + "\n")
    if failure:
        progress.print(f"bench: {failure}", style="red", highlight=False, markup=False)
        return 1
    return 1 if asked.strict and not report.is_within(found.rows) else 0


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)  # so that what was started is ended on the way out


if __name__ == "__main__":
    sys.exit(main())
