"""The options of `gateway chaos`, read in this process; what it plays is tried in tests/e2e/test_chaos_command.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.chaos import faults
from gateway.cli.chaos import main

LONE = "providers: {one: {kind: openai, base_url: 'http://one.invalid'}}\nmodels: {alone: {deployments: [one/a]}}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fault", "hangs"), "unknown fault 'hangs'; did you mean hang?"),
        (("--fault", "?"), "unknown fault '?'; there are: bad-request, "),
        (("--alias", "alon"), "unknown alias 'alon'; did you mean alone?"),
        (("--patience", "0"), "expected seconds from 0.1 to 600, got 0"),
        (("--patience", "nan"), "expected seconds from 0.1 to 600, got nan"),
        (("--patience", "soon"), "invalid"),
        (("--limit", "0"), "expected at least 1, got 0"),
        (("--what",), "unrecognized arguments: --what"),
    ],
)
def test_a_wrong_option_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(LONE, encoding="utf-8")

    with pytest.raises(SystemExit) as left:
        main(["--config", str(file), *arguments])

    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_the_faults_are_listed_with_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--list"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert "black-hole       F23  connection never accepted (chat, stream, embeddings, images)" in lines
    assert len(lines) == len(faults())


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(LONE, encoding="utf-8")

    code = main(["--config", str(file), "--fault", "empty", "--log", str(tmp_path / "missing" / "log")])

    assert code == 1
    assert "No such file or directory" in capsys.readouterr().err
