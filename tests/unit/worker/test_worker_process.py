"""The worker as a process: what it reports and how it ends, without a model that could be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.worker import EXIT_BAD_MODEL, EXIT_OTHER
from tests.unit.worker.headers import STRING, header, pair, tensor, text, whole


@pytest.fixture
def private_directory() -> Iterator[Path]:
    with TemporaryDirectory() as made:
        yield Path(made)


def run(directory: Path, model: Path, *more: str) -> tuple[dict[str, str], int, str]:
    """Run a worker to its end; returns its report, its exit code and its standard error."""
    command = [sys.executable, "-m", "gateway.worker", "--model", str(model), "--name", "tiny"]
    ended = subprocess.run(
        [*command, "--socket", str(directory / "m.sock"), *more], capture_output=True, text=True, timeout=30
    )
    return json.loads(ended.stdout), ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("raw", "reason", "matter"),
    [
        (None, "tiny.gguf: no such file", "its file is missing"),
        (b"Once upon a time", "tiny.gguf: not a GGUF file", "its file is not a GGUF file"),
        (
            whole()[:90],
            "tiny.gguf: truncated: a key of 19 bytes in a file of 90",
            "its file is damaged: truncated",
        ),
    ],
    ids=["missing", "not a GGUF", "truncated"],
)
def test_a_file_that_is_no_model_is_told_before_an_engine_sees_it(
    private_directory: Path, raw: bytes | None, reason: str, matter: str
) -> None:
    model = private_directory / "tiny.gguf"
    if raw is not None:
        model.write_bytes(raw)

    report, code, noise = run(private_directory, model)

    assert (report, code, noise) == (
        {"event": "failed", "reason": reason, "matter": matter},
        EXIT_BAD_MODEL,
        "",
    )


def test_a_model_that_llama_cpp_does_not_know_is_refused_in_its_words(private_directory: Path) -> None:
    model = private_directory / "tiny.gguf"
    model.write_bytes(whole())

    report, code, noise = run(private_directory, model)

    assert report == {
        "event": "failed",
        "reason": "tiny.gguf: unknown model architecture: 'tiny'",
        "matter": "",
    }
    assert code == EXIT_BAD_MODEL
    assert "unknown model architecture" in noise


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP shows what it was told")
@pytest.mark.parametrize(
    ("own", "shown"),
    [({}, "GOMP_SPINCOUNT = '1000'"), ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'")],
    ids=["ours", "the operator's"],
)
def test_threads_at_a_barrier_spin_for_a_moment_only(
    private_directory: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, str], shown: str
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"OMP_DISPLAY_ENV": "verbose", **own}.items():
        monkeypatch.setenv(name, value)
    model = private_directory / "tiny.gguf"
    model.write_bytes(whole())

    _, _, noise = run(private_directory, model)

    assert shown in noise
    assert ("GOMP_SPINCOUNT = '1000'" in noise) == (not own)


def test_a_model_without_weights_is_refused(private_directory: Path) -> None:
    model = private_directory / "tiny.gguf"
    model.write_bytes(
        header(pair("general.architecture", STRING, text("llama")), tensor(), pairs=1, tensors=1) + bytes(64)
    )

    report, code, _ = run(private_directory, model)

    assert "context_length" in report["reason"]
    assert code == EXIT_BAD_MODEL


def test_a_directory_that_others_may_read_is_refused(private_directory: Path) -> None:
    private_directory.chmod(0o755)

    report, code, _ = run(private_directory, private_directory / "tiny.gguf")

    assert "mode 0700" in report["reason"]
    assert code == EXIT_OTHER


def test_a_wrong_option_is_reported(private_directory: Path) -> None:
    report, code, _ = run(private_directory, private_directory / "tiny.gguf", "--slots", "none")

    assert "--slots" in report["reason"]
    assert code == EXIT_OTHER


def test_it_starts_without_standard_input(private_directory: Path) -> None:
    model = private_directory / "tiny.gguf"
    model.write_bytes(b"x")
    command = [sys.executable, "-m", "gateway.worker", "--model", str(model), "--name", "n"]

    ended = subprocess.run(
        [*command, "--socket", str(private_directory / "m.sock")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        close_fds=True,
        preexec_fn=lambda: os.close(0),  # a service manager may start us without standard input
        timeout=30,
    )

    assert ended.returncode == EXIT_BAD_MODEL
