"""`gateway chaos`: try a configuration against upstreams that fail on purpose, without asking any real one.

It has more options than a function may have parameters, so argparse reads them here, not typer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.chaos import MOST_CASES, PATIENCE_SECONDS, Report, UnknownName, Wishes, faults, load_without_keys, run
from gateway.mistakes import ConfigError

BAD_CONFIGURATION = 78  # sysexits.h: EX_CONFIG
INTERRUPTED = 130  # as shells say after Ctrl-C
DEFAULT_FILE = Path("gateway.yaml")
LEAST_PATIENCE_SECONDS, MOST_PATIENCE_SECONDS = 0.1, 600.0

_ABOUT = """Let each deployment of each alias fail in every way and print what a caller sees.
Stand-ins on this machine take the place of all providers; no real one is asked."""
_CODES = """Exit codes: 0 if every answer came, or a true error in time where none could; 1 if not, or if there were more
cases than are played and no --limit asked for fewer; 2 for a wrong option; 78 with one line on standard error for
each mistake in the configuration."""


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say and return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list:
        _print(_fault_lines())
        return 0
    wishes = Wishes(given.alias, given.fault, given.patience, given.limit, given.log)
    try:
        config = load_without_keys(given.config, os.environ, every_provider=given.every_provider)
        report = run(config, wishes, _progress if sys.stderr.isatty() else _ignore)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_CONFIGURATION
    except UnknownName as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # the log cannot be written, or no port can be had
        sys.stderr.write(f"gateway chaos: {error}\n")
        return 1
    _show(report, as_json=given.json, strict=given.strict)
    return report.exit_status(strict=given.strict)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway chaos", description=_ABOUT, epilog=_CODES, allow_abbrev=False)
    add = parser.add_argument
    add("--config", "-c", type=Path, default=DEFAULT_FILE, metavar="FILE", help="the configuration file")
    add("--alias", action="append", default=[], metavar="NAME", help="try this alias only; may be repeated")
    add("--fault", action="append", default=[], metavar="NAME", help="try this fault only; may be repeated")
    add(
        "--patience",
        type=_seconds,
        default=PATIENCE_SECONDS,
        metavar="SECONDS",
        help="what longer timeouts are cut to",
    )
    add(
        "--limit",
        type=_count,
        metavar="N",
        help=f"the most cases played; if not given {MOST_CASES}, and more than that fail the run",
    )
    add(
        "--every-provider",
        action="store_true",
        help="take every key as given, so that no provider is off for want of it",
    )
    add("--strict", action="store_true", help="fail also for an alias that one lost deployment, key or host takes away")
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--list", action="store_true", help="list the faults and end")
    add("--log", type=Path, default=Path(os.devnull), metavar="FILE", help="keep the gateway's log lines there")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not LEAST_PATIENCE_SECONDS <= seconds <= MOST_PATIENCE_SECONDS:
        raise argparse.ArgumentTypeError(
            f"expected seconds from {LEAST_PATIENCE_SECONDS:g} to {MOST_PATIENCE_SECONDS:g}, got {text}"
        )
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return count


def _fault_lines() -> Iterator[str]:
    for fault in faults():
        yield f"{fault.name:<16} {fault.row:<4} {fault.title} ({', '.join(fault.forms)})"


def _show(report: Report, *, as_json: bool, strict: bool) -> None:
    if as_json:
        _print([json.dumps(report.as_json(strict=strict), indent=2, ensure_ascii=False)])
        return
    _print(report.lines())
    if not report.results:
        sys.stderr.write("nothing was tried: no provider that is on serves a model; see --every-provider\n")


def _print(lines: Iterator[str] | Sequence[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _progress(done: int, of_all: int) -> None:
    # Standard error itself is the log's while the cases are played.
    assert sys.__stderr__ is not None  # noqa: S101  it is a terminal
    sys.__stderr__.write(f"\r{done} of {of_all} cases" if done < of_all else "\r\x1b[K")
    sys.__stderr__.flush()


def _ignore(_done: int, _of_all: int) -> None:
    return
