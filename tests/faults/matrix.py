"""Writes FAULTS.md, the published failure matrix, from what the drills' callers saw.

    python -m tests.faults.matrix

What is written depends on the drills alone: no times, ports, ids or waits that chance had a hand in.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MATRIX = ROOT / "FAULTS.md"
NOTES_VARIABLE = "GATEWAY_FAULT_NOTES"
KINDS = ("chat", "stream", "embeddings")
COLUMNS = ("", "alone", "with another", "both broken")
GROUPS = {
    # title → the last row of the group
    "Statuses": 21,
    "Connections": 31,
    "Streams and contents": 52,
    "Deployments in the course of time": 56,
    "Callers": 62,
    "Requests": 79,
}
USUAL = "the whole answer"  # seen before the fault or after it, where anything else was seen too
_WAIT = re.compile(r"Retry-After \d+")
_ROW = re.compile(r"^\| F(\d+) \| ([^|]*) \|", re.MULTILINE)

INTRODUCTION = """\
# What callers see when something breaks

Each row is a fault that was played on loopback against the running application: by a scripted upstream that breaks in
just this way, or by a caller that misbehaves. A cell says what the caller of a chat completion, of a streamed one, or of
an embedding saw of it. *Alone* is a model with one deployment, *with another* one whose second deployment is sound,
*both broken* one whose second fails likewise; a cell without these words holds for all that were tried. "or" parts the
outcomes of a row's variants and of calls that came later. An empty cell means that the fault does not exist there.

Statuses are the caller's, words in `this type` are the error's `code`, as in OpenAI's envelope. "Retry-After" says that
the answer tells when to come back. After content went out a stream is never continued by another deployment.

Rows that are missing: F7 and the faults of jobs, because fine-tuning is not in this version; F75, F76 and F79, because
this version enforces no limits on callers.

`make faults` plays all of it again and writes this file; `make faults && git diff --exit-code FAULTS.md` proves it current.
The drills are in `tests/faults`, named by their rows (`test_f32_…`).
"""

REMARKS = """\
## Remarks

- **F36.** A role or a report on the prompt is no content: such a beginning is kept back until content comes, for a second
  at most, so that a failure right behind it is a status, or another deployment's business.
- **F37.** In more than 4 KiB that arrive at once an error that is not among the last eight events is found as `"error":`,
  without a space before the colon, and not if they end with [DONE]: who says that has not failed.
- **F40.** Parsing every event would cost more than relaying it. All of a stream is checked to be UTF-8; events that do not
  begin and end as an object does are found unless more than 4 KiB arrive at once; what is wrong between the braces is
  noticed in the first event and in those that end the stream, fail it or count tokens.
- **F60.** A FIN is all that TCP tells, whether a caller closed its sending half or, as nearly all do that leave, both.
  Only writing would tell the difference, and a plain answer has nothing to write until it is paid for. So it counts as
  gone, and its upstream is free at once.
- **F61.** A caller that took nothing for 90 seconds is cut. Until then its upstream is read no further.
"""


def render(notes: Iterable[Mapping[str, Any]]) -> str:
    """Return the whole of FAULTS.md; notes are `row`, `fault`, `kind`, `column`, `seen`, in the order of the drills."""
    rows: dict[tuple[int, str], dict[tuple[str, str], list[str]]] = {}
    for note in notes:
        row = rows.setdefault((int(note["row"].removeprefix("F")), note["fault"]), {})
        seen = row.setdefault((note["kind"], note["column"]), [])
        words = _WAIT.sub("Retry-After", note["seen"])
        if words not in seen:
            seen.append(words)
    parts = [INTRODUCTION]
    first = 0
    for title, last in GROUPS.items():
        lines = [_line(key, rows[key]) for key in sorted(rows, key=lambda key: key[0]) if first < key[0] <= last]
        if lines:
            parts.append(
                f"## {title}\n\n| Row | Fault | Chat | Stream | Embeddings |\n|---|---|---|---|---|\n{''.join(lines)}"
            )
        first = last
    return "\n".join((*parts, REMARKS))


def rows_of(text: str) -> set[tuple[str, str]]:
    """Return the rows that a rendered FAULTS.md has, as their numbers and titles."""
    return {(f"F{number}", fault) for number, fault in _ROW.findall(text)}


def _line(key: tuple[int, str], row: Mapping[tuple[str, str], list[str]]) -> str:
    cells = (_cell({column: row[kind, column] for column in COLUMNS if (kind, column) in row}) for kind in KINDS)
    return f"| F{key[0]} | {key[1]} | {' | '.join(cells)} |\n"


def _cell(seen: Mapping[str, list[str]]) -> str:
    told = {column: " or ".join(_without_usual(words)) for column, words in seen.items()}
    if len(set(told.values())) <= 1:
        return next(iter(told.values()), "")
    return " / ".join(f"{column}: {words}" if column else words for column, words in told.items())


def _without_usual(words: list[str]) -> list[str]:
    return [each for each in words if each != USUAL] or words


def main() -> int:
    """Play the drills and write the file; returns the tests' exit status, and writes nothing unless it is 0."""
    with tempfile.TemporaryDirectory() as directory:
        notes = Path(directory) / "notes"
        command = [sys.executable, "-m", "pytest", "-m", "fault", "tests/faults"]
        status = subprocess.run(
            command, cwd=ROOT, env={**os.environ, NOTES_VARIABLE: str(notes)}, check=False
        ).returncode
        if status == 0:
            MATRIX.write_text(render(map(json.loads, notes.read_text("utf-8").splitlines())), "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
