"""From figures to one table, one JSON document and one verdict. It measures nothing."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from bench.local import CALLERS, Turns, at_95
from bench.measures import Comparison
from bench.ratios import Spread, ratios, spread

# What the gateway may cost; the figures' origin is bench/design.md.
RATIO_BOUNDS = {"chat": 1.35, "stream": 1.4, "trickled": 1.25}
LANE_AIM = 0.5  # times a bare handler that calls litellm; wished for, not owed
START_BOUND_SECONDS = 1.0
MEMORY_BOUND_MEGABYTES = 90.0
TWO_WORKERS_BOUND = 1.8
OUTAGE_BOUND_MILLISECONDS = 50.0
LEAVING_BOUND_MILLISECONDS = 250.0

UNSURE = "interval spans bound"
TOO_BUSY = "machine too busy: no verdict"
VERDICTS = {True: "[green]yes[/]", False: "[bold red]NO[/]", None: ""}
BUSY_LOAD = 1.0  # runnable processes in the minute before the run

TITLES = {
    "chat": "chat",
    "stream": "stream, chunks together",
    "trickled": "stream, one by one",
    "embedding": "embedding, 1,536 floats",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `bound` is the most (or least) that `bounded` may be, None without one."""

    measure: str
    unit: str
    raw: float | None
    value: float | None
    ratio: Spread | None = None
    bound: float | None = None
    bounded: Literal["ratio", "value"] = "ratio"
    is_floor: bool = False
    note: str = ""
    is_calm: bool = True

    @property
    def is_undecided(self) -> bool:
        """Tell whether there is a bound but the machine was too busy to hold the figure against it."""
        return self.bound is not None and not self.is_calm

    @property
    def is_within(self) -> bool | None:
        """Tell whether the bound holds; None when there is none, nothing was measured, or the machine was too busy."""
        if not self.is_calm:
            return None
        figure = self.value if self.bounded == "value" else None if self.ratio is None else self.ratio.median
        if self.bound is None or figure is None:
            return None
        return figure >= self.bound if self.is_floor else figure <= self.bound

    @property
    def is_sure(self) -> bool:
        """Tell whether the whole interval is on one side of the bound."""
        if self.bound is None or self.ratio is None or self.bounded == "value":
            return True
        return not self.ratio.low <= self.bound <= self.ratio.high


PLAIN = "plain"  # the gateway without what is measured


def cpu_row(kind: str, found: Comparison, name: str = "gateway", bound: float | None = None, base: str = "raw") -> Row:
    """Return the row of one comparison, in processor microseconds per request; `base` is what stands for raw."""
    raw, own = found.seconds(base), found.seconds(name)
    in_place = "" if base == "raw" else f"{base} in place of raw; "
    return Row(
        TITLES.get(kind, kind),
        "cpu µs",
        statistics.median(raw) * 1e6,
        statistics.median(own) * 1e6,
        spread(ratios(own, raw)),
        bound,
        note=f"{in_place}{sum(found.calm)} of {len(found.calm)} turns calm",
        is_calm=found.is_enough,
    )


def added_row(title: str, found: Comparison, bound: float) -> Row:
    """Return the row of what the gateway costs more than one in which a part of it is off, as a share of raw."""
    raw, plain, own = (found.seconds(name) for name in ("raw", PLAIN, "gateway"))
    added = [one - other for one, other in zip(own, plain, strict=True)]
    return Row(
        title,
        "cpu µs",
        statistics.median(raw) * 1e6,
        statistics.median(added) * 1e6,
        spread(ratios(added, raw)),
        bound,
        note=f"in all {spread(ratios(own, raw)).median:.2f}; {sum(found.calm)} of {len(found.calm)} turns calm",
        is_calm=found.is_enough,
    )


def local_rows(found: Mapping[str, Turns]) -> list[Row]:
    """Return the rows on local models: what many callers get beside one, and each system beside the default engine."""
    ours, one = found[f"xllamacpp, {CALLERS} at once"], found["xllamacpp, 1 at once"]
    rows = [
        _speed("local: 8 callers beside 1", ours.alone, ours.together, 1.15, "1 caller in place of raw"),
        Row(
            "local: 95th percentile of the first token, 8 callers",
            "ms",
            at_95(one.first_together) * 1000,
            at_95(ours.first_together) * 1000,
            Spread(*[at_95(ours.first_together) / at_95(one.first_together)] * 3),
            bound=0.25,
            note="one at a time in place of raw",
        ),
    ]
    others = {
        "gateway": ("local: behind the gateway, 8 callers", 0.97, "the model process in place of raw"),
        f"llama-cpp-python, {CALLERS} at once": (
            "local: llama-cpp-python, 8 callers",
            0.95,
            "xllamacpp in place of raw",
        ),
    }
    for name, (title, bound, note) in others.items():
        if name in found:
            rows.append(_speed(title, ours.together, found[name].together, bound, note))
    if "llama_cpp.server" in found:
        rows.append(
            _speed(
                "local: beside llama_cpp.server, 8 callers",
                found["llama_cpp.server"].together,
                ours.together,
                2.5,
                "llama_cpp.server in place of raw",
            )
        )
    if found.get("gateway") and found["gateway"].lag:
        lag = statistics.median(found["gateway"].lag) * 1000
        note = "99th percentile of a turn, median of the turns"
        rows.append(
            Row("local: event loop beside a working model", "ms late", None, lag, bound=5.0, bounded="value", note=note)
        )
    return rows


def _speed(title: str, theirs: Sequence[float], ours: Sequence[float], bound: float, note: str) -> Row:
    return Row(
        title,
        "tokens/s",
        statistics.median(theirs),
        statistics.median(ours),
        spread(ratios(ours, theirs)),
        bound=bound,
        is_floor=True,
        note=note,
    )


def is_within(rows: Sequence[Row]) -> bool:
    """Tell whether every bound was seen to hold: one that could not be judged was not."""
    return not any(row.is_within is False or row.is_undecided for row in rows)


def table(rows: Sequence[Row], *, title: str, column: str = "gateway") -> Table:
    """Return the rows as a table; × raw is followed by its 95 % interval."""
    found = Table(title=title, title_justify="left")
    for heading in ("measure", "unit"):
        found.add_column(heading)
    for heading in ("raw", column, "× raw (95 %)", "bound", "ok"):
        found.add_column(heading, justify="right")
    found.add_column("")
    for row in rows:
        ok = "[yellow]?[/]" if row.is_undecided else VERDICTS[row.is_within]
        cells = [_number(row.raw), _number(row.value), _ratio(row.ratio), _bound(row), ok]
        remarks = [row.note, "" if row.is_calm else TOO_BUSY, "" if row.is_sure else UNSURE]
        found.add_row(row.measure, row.unit, *cells, "; ".join(filter(None, remarks)))
    return found


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(found: Spread | None) -> str:
    return "" if found is None else f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})"


def _bound(row: Row) -> str:
    if row.bound is None:
        return ""
    return f"{'≥' if row.is_floor else '≤'} {row.bound:g}"


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    packages = {}
    for name in ("aiohttp", "uvloop", "orjson", "litellm"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "missing"
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **packages,
    }


def busy_remark(load_average: float) -> str:
    """Return what is to be said of a machine that was busy before the run, "" for a quiet one."""
    if load_average <= BUSY_LOAD:
        return ""
    return (
        f"other programs kept the machine busy (load average {load_average:.1f} before the run): start times are too high; "
        "turns that were disturbed do not count"
    )


def document(rows: Sequence[Row], turns: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return everything that was measured, ready for JSON."""
    return {
        "machine": machine(),
        "arguments": sys.argv[1:],
        "seconds": round(seconds, 1),
        "is_within": is_within(rows),
        "rows": [{**asdict(row), "is_within": row.is_within, "is_undecided": row.is_undecided} for row in rows],
        "turns": turns,
    }


def show(tables: Sequence[Table], remarks: Sequence[str], console: Console) -> None:
    """Print the tables and what must be said of them."""
    for found in tables:
        console.print(found)
    for remark in filter(None, remarks):
        console.print(remark, highlight=False)
