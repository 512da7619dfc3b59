"""The run directory is private, its paths are short, and what is written in it is never read half."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway import rundir
from gateway.rundir import (
    ModelStatus,
    model_socket,
    model_status,
    model_trouble,
    read_status,
    run_directory,
    write_status,
)


def test_nobody_else_may_enter_the_directory_and_it_is_gone_at_the_end(tmp_path: Path) -> None:
    with run_directory(str(tmp_path)) as made:
        (made / "some.sock").touch()
        mode = stat.S_IMODE(made.stat().st_mode)

    assert mode == 0o700
    assert not list(tmp_path.iterdir())


def test_a_long_temporary_directory_is_left_for_a_short_one(tmp_path: Path) -> None:
    base = tmp_path / ("x" * 120)
    base.mkdir()

    with run_directory(str(base)) as made:
        assert len(str(model_socket(made, "local", "m"))) <= rundir.LONGEST_SOCKET_PATH
        assert not list(base.iterdir())


def test_what_a_killed_gateway_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / "gateway-left"
    (left / "metrics").mkdir(parents=True)
    (left / rundir.MARK).touch()

    with run_directory(str(tmp_path)) as made:
        assert list(tmp_path.iterdir()) == [made]


def test_the_directory_of_a_living_gateway_is_left_alone(tmp_path: Path) -> None:
    with run_directory(str(tmp_path)) as first, run_directory(str(tmp_path)) as second:
        assert set(tmp_path.iterdir()) == {first, second}


def test_a_directory_that_only_has_a_similar_name_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "gateway-other"
    other.mkdir()
    (tmp_path / "gateway-link").symlink_to(other)
    (tmp_path / "gateway-file").touch()

    with run_directory(str(tmp_path)):
        pass

    assert len(list(tmp_path.iterdir())) == 3


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
