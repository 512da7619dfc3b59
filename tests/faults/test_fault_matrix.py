"""FAULTS.md has every row that is drilled and no other; what its cells say is proven by `make faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.matrix import GROUPS, MATRIX, render, rows_of


class Marks:
    """Learns which rows the drills of this folder are marked with."""

    def __init__(self) -> None:
        self.rows: set[tuple[str, str]] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.rows = {mark.args for item in session.items for mark in item.iter_markers("fault")}


def test_every_drilled_row_is_in_the_matrix_and_none_else() -> None:
    marks = Marks()

    pytest.main(["--collect-only", "-p", "no:faulthandler", str(Path(__file__).parent)], [marks])

    assert rows_of(MATRIX.read_text("utf-8")) == marks.rows, "make faults"


def note(row: str, column: str, seen: str, kind: str = "chat") -> dict[str, str]:
    return {"row": row, "fault": f"fault of {row}", "kind": kind, "column": column, "seen": seen}


def test_cells_say_once_what_holds_always_and_leave_chance_out() -> None:
    text = render(
        [
            note("F63", "", "413"),
            note("F2", "alone", "400"),
            note("F2", "with another", "400"),
            note("F1", "alone", "the whole answer"),
            note("F1", "alone", "429 `slow`, Retry-After 7"),
            note("F1", "alone", "429 `slow`, Retry-After 8"),
            note("F1", "with another", "the other's", "stream"),
            note("F1", "both broken", "502", "stream"),
        ]
    )

    assert [line for line in text.splitlines() if line.startswith("| F")] == [
        "| F1 | fault of F1 | 429 `slow`, Retry-After | with another: the other's / both broken: 502 |  |",
        "| F2 | fault of F2 | 400 |  |  |",
        "| F63 | fault of F63 | 413 |  |  |",
    ]
    assert rows_of(text) == {(row, f"fault of {row}") for row in ("F1", "F2", "F63")}
    assert next(iter(GROUPS)) in text
    assert "Callers" not in text.split("## Remarks")[0].split("## Statuses")[1]
