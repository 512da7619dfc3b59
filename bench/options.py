"""The command line of the harness."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench.configs import GATEWAY_COMMAND


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; argparse ends the program for wrong ones."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure what the gateway costs beside a plain aiohttp proxy, on this machine, on loopback only.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns: a first look in half a minute")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 when a bound is exceeded or could not be judged"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured to FILE")
    kinds = [
        "chat",
        "stream",
        "trickled",
        "embedding",
        "cache",
        "windows",
        "lanes",
        "failures",
        "workers",
        "start",
        "local",
    ]
    parser.add_argument("--only", action="append", choices=kinds, default=[])
    parser.add_argument("--turns", type=int, metavar="N", help="turns of each comparison, instead of the usual ones")
    parser.add_argument(
        "--soak",
        type=int,
        nargs="?",
        const=50_000,
        default=0,
        metavar="N",
        help="then send N more requests (50,000) and watch the memory",
    )
    parser.add_argument("--load", choices=["own", "wrk"], default="own", help="what sends the requests that are timed")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="DIRECTORY",
        help="instead, sample raw and gateway with py-spy and compare them function by function",
    )
    parser.add_argument(
        "--gateway-command",
        default=GATEWAY_COMMAND,
        metavar="COMMAND",
        help="what to measure instead; {config}, {port}, {upstream}, {python} and {bin} are filled in",
    )
    return parser.parse_args(arguments)
