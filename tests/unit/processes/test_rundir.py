"""The run directory is private, its paths are short, and what is written in it is never read half."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

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


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for sockets, however often pytest ran on this machine."""
    path = Path(mkdtemp(prefix="rundir-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_nobody_else_may_enter_the_directory_and_it_is_gone_at_the_end(short_path: Path) -> None:
    with run_directory(str(short_path)) as made:
        (made / "some.sock").touch()
        mode = stat.S_IMODE(made.stat().st_mode)

    assert mode == 0o700
    assert not list(short_path.iterdir())


def test_a_long_temporary_directory_is_left_for_a_short_one(short_path: Path) -> None:
    base = short_path / ("x" * 120)
    base.mkdir()

    with run_directory(str(base)) as made:
        assert len(str(model_socket(made, "local", "m"))) <= rundir.LONGEST_SOCKET_PATH
        assert not list(base.iterdir())


def test_what_a_killed_gateway_left_is_removed_by_the_next_one(short_path: Path) -> None:
    left = short_path / "gateway-left"
    (left / "metrics").mkdir(parents=True)
    (left / rundir.MARK).touch()

    with run_directory(str(short_path)) as made:
        assert list(short_path.iterdir()) == [made]


def test_the_directory_of_a_living_gateway_is_left_alone(short_path: Path) -> None:
    with run_directory(str(short_path)) as first, run_directory(str(short_path)) as second:
        assert set(short_path.iterdir()) == {first, second}


def test_a_directory_that_only_has_a_similar_name_is_left_alone(short_path: Path) -> None:
    other = short_path / "gateway-other"
    other.mkdir()
    (short_path / "gateway-link").symlink_to(other)
    (short_path / "gateway-file").touch()

    with run_directory(str(short_path)):
        pass

    assert len(list(short_path.iterdir())) == 3


def test_names_of_any_length_give_paths_of_one_length(short_path: Path) -> None:
    short, long = model_socket(short_path, "a", "b"), model_socket(short_path, "a" * 500, "../b/" * 100)

    assert len(str(short)) == len(str(long))
    assert long.parent == short_path


def test_the_border_between_provider_and_model_counts(short_path: Path) -> None:
    assert model_socket(short_path, "ab", "c") != model_socket(short_path, "a", "bc")


def test_a_state_is_read_as_it_was_written(short_path: Path) -> None:
    path = model_status(short_path, "local", "smollm2")
    status = ModelStatus("failed", "its file is not a GGUF file.")

    write_status(path, ModelStatus("starting"))
    write_status(path, status)

    assert read_status(path) == status
    assert list(short_path.iterdir()) == [path]


def test_a_model_without_a_state_is_starting(short_path: Path) -> None:
    assert read_status(short_path / "none.json") == ModelStatus("starting")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (ModelStatus("ready"), ""),
        (ModelStatus("ready", "old news"), ""),
        (ModelStatus("idle"), ""),
        (ModelStatus("loading"), ""),
        (ModelStatus("waiting"), "other models are at work and leave it no memory."),
        (ModelStatus("starting"), "it is being loaded."),
        (ModelStatus("restarting", "its process ended (killed by SIGSEGV)."), "its process ended (killed by SIGSEGV)."),
        (ModelStatus("failed"), "it cannot be loaded."),
    ],
)
def test_the_trouble_of_a_model_is_a_sentence(short_path: Path, status: ModelStatus, sentence: str) -> None:
    write_status(short_path / "m.json", status)

    assert model_trouble(short_path / "m.json") == sentence
