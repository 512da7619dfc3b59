"""What a run comes to: the matrix for people, the same as JSON for programs, and whether the configuration holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.chaos.cases import EVERYBODY
from gateway.chaos.driving import Result
from gateway.chaos.judging import FAILURES, WORDS

HELD, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run and what is to be known of them; `weak` are aliases that one failure can take away, and why.

    What was `left_out` was not proven, so it fails the run unless somebody wanted the limit.
    """

    config: str
    patience_seconds: float
    results: Sequence[Result]
    left_out: int
    is_limit_wanted: bool
    notes: Sequence[str]
    weak: Mapping[str, str]
    seconds: float

    def exit_status(self, *, strict: bool = False) -> int:
        """Return 0 if the configuration holds; with `strict` no alias may be weak."""
        failures = sum(self.counts()[word] for word in FAILURES)
        unproven = not self.results or (self.left_out and not self.is_limit_wanted)
        return FAILED if failures or unproven or (strict and self.weak) else HELD

    def counts(self) -> Counter[str]:
        """Return the number of cases by verdict."""
        return Counter(result.verdict.word for result in self.results)

    def as_json(self, *, strict: bool = False) -> dict[str, Any]:
        """Return everything; times are in milliseconds where the name says so."""
        counts = self.counts()
        return {
            "config": self.config,
            "exit_status": self.exit_status(strict=strict),
            "patience_seconds": self.patience_seconds,
            "summary": {
                "cases": len(self.results),
                "left_out": self.left_out,
                **{word.replace(" ", "_"): counts[word] for word in WORDS},
                "seconds": round(self.seconds, 3),
            },
            "notes": list(self.notes),
            "warnings": [{"alias": alias, "reason": reason} for alias, reason in self.weak.items()],
            "cases": [_row(result) for result in self.results],
        }

    def lines(self) -> Iterator[str]:
        """Yield the matrix, one table for each alias and form of request, and then what it comes to."""
        yield f"{self.config}: {len(self.results)} cases, no wait above {self.patience_seconds:g} s"
        yield from (f"  {note}" for note in self.notes)
        tables: dict[tuple[str, str], list[Result]] = {}
        for result in self.results:
            tables.setdefault((result.case.alias, result.case.form), []).append(result)
        for (alias, form), results in tables.items():
            yield ""
            yield f"{alias} · {form}"
            yield from _table(results)
        yield ""
        yield from self._end()

    def _end(self) -> Iterator[str]:
        for result in self.results:
            if result.verdict.word in FAILURES:
                case = result.case
                yield f"{result.verdict.word}: {case.alias} · {case.form} · {case.fault.name} at {case.where}: {_told(result)}"
        remarks = Counter(
            (result.case.fault.name, result.verdict.reason)
            for result in self.results
            if result.verdict.word == "remark"
        )
        yield from (f"remark: {fault}, {number} times: {reason}" for (fault, reason), number in remarks.items())
        yield from (f"warning: {alias}: {reason}" for alias, reason in self.weak.items())
        if self.left_out:
            told = f"{self.left_out} cases beyond the limit were left out"
            yield f"warning: {told}" if self.is_limit_wanted else f"not tried: {told}; see --limit and --alias"
        counts = self.counts()
        yield ", ".join(f"{counts[word]} {word}" for word in WORDS) + f" in {self.seconds:.1f} s"


def _table(results: Sequence[Result]) -> Iterator[str]:
    """Yield a line for each fault with a column for each deployment that had it, and one for all."""
    cells: dict[str, dict[str, str]] = {}
    for result in results:
        fault = result.case.fault
        cells.setdefault(f"{fault.name} ({fault.row} {fault.title})", {})[result.case.where] = _cell(result)
    names = [name for name in results[0].case.deployments if any(name in row for row in cells.values())]
    others = dict.fromkeys(name for row in cells.values() for name in row if name not in names)
    names += sorted(others, key=lambda name: name != EVERYBODY)
    lines = [["fault", *(f"at {name}" for name in names)]]
    lines += [[title, *(row.get(name, "-") for name in names)] for title, row in cells.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def _cell(result: Result) -> str:
    return f"{result.verdict.word}: {_seen(result)}"


def _seen(result: Result) -> str:
    """Say what the caller saw, who answered, and after how long."""
    after = f"{result.seconds * 1000:.0f} ms"
    verdict = result.verdict
    if verdict.word == "ok":
        return f"{result.answered_by} after {after}"
    said = verdict.code or ("an error without a code" if verdict.word in ("honest", "avoidable") else "")
    return f"{' '.join(filter(None, (str(result.status or 'no answer'), said)))} after {after}"


def _told(result: Result) -> str:
    """Say the same with the reason."""
    return f"{_seen(result)}: {result.verdict.reason}" if result.verdict.reason else _seen(result)


def _row(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "alias": case.alias,
        "form": case.form,
        "fault": case.fault.name,
        "row": case.fault.row,
        "title": case.fault.title,
        "at": case.where,
        "broken": sorted(case.broken),
        "failing": sorted(case.failing),
        "survivable": case.survivable,
        "touched": result.touched,
        "verdict": result.verdict.word.replace(" ", "_"),
        "status": result.status,
        "code": result.verdict.code,
        "reason": result.verdict.reason or None,
        "answered_by": result.answered_by if result.verdict.word in ("ok", "remark") else None,
        "attempts": result.attempts,
        "asked": list(result.asked),
        "retry_after": result.retry_after,
        "milliseconds": round(result.seconds * 1000, 1),
    }
