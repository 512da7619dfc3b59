"""The run directory is private, its paths are short, and what is written in it is never read half."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway import rundir
from gateway.rundir import ModelStatus, model_socket, model_status, model_trouble, read_status, write_status


def test_nobody_else_may_enter_the_directory(tmp_path: Path) -> None:
    made = rundir.create(str(tmp_path))

    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_long_temporary_directory_is_left_for_a_short_one(tmp_path: Path) -> None:
    base = tmp_path / ("x" * 120)
    base.mkdir()

    made = rundir.create(str(base))

    try:
        assert len(str(model_socket(made, "local", "m"))) <= rundir.LONGEST_SOCKET_PATH
        assert not list(base.iterdir())
    finally:
        made.rmdir()


def test_names_of_any_length_give_paths_of_one_length(tmp_path: Path) -> None:
    short, long = model_socket(tmp_path, "a", "b"), model_socket(tmp_path, "a" * 500, "../b/" * 100)

    assert len(str(short)) == len(str(long))
    assert long.parent == tmp_path


def test_the_border_between_provider_and_model_counts(tmp_path: Path) -> None:
    assert model_socket(tmp_path, "ab", "c") != model_socket(tmp_path, "a", "bc")


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = model_status(tmp_path, "local", "smollm2")
    status = ModelStatus("failed", "its file is not a GGUF file.", restarts=3)

    write_status(path, ModelStatus("starting"))
    write_status(path, status)

    assert read_status(path) == status
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_without_a_state_is_starting(tmp_path: Path) -> None:
    assert read_status(tmp_path / "none.json") == ModelStatus("starting")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (ModelStatus("ready"), ""),
        (ModelStatus("ready", "old news"), ""),
        (ModelStatus("starting"), "it is being loaded."),
        (ModelStatus("restarting", "its process ended (killed by SIGSEGV)."), "its process ended (killed by SIGSEGV)."),
        (ModelStatus("failed"), "it cannot be loaded."),
    ],
)
def test_the_trouble_of_a_model_is_a_sentence(tmp_path: Path, status: ModelStatus, sentence: str) -> None:
    write_status(tmp_path / "m.json", status)

    assert model_trouble(tmp_path / "m.json") == sentence
