"""What is recorded of a model decides whether its files are still what they were, with as little reading as will do."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.packaged import PackagedModelError, Record, Step, Wish, read_record, register, verify, why_changed
from tests.unit.packaged.tiny_packages import sha256
from tests.unit.worker.headers import STRING, U32, pair, text, u32, whole


class Watched:
    """Progress that keeps the phases it was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def __call__(self, step: Step) -> None:
        self.phases.append(step.phase)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(whole())
    return file


@pytest.fixture
def record(tmp_path: Path, tiny: Path) -> Record:
    return register(Wish(str(tiny)), tmp_path, {})[0]


def reread(directory: Path) -> Record:
    found = read_record("tiny", directory)
    assert found is not None
    return found


def test_a_file_that_was_not_written_is_not_read_again(tmp_path: Path, record: Record) -> None:
    watched = Watched()

    verify(record, tmp_path, watched)

    assert watched.phases == []


def test_a_file_that_was_only_touched_is_read_once(tmp_path: Path, tiny: Path, record: Record) -> None:
    os.utime(tiny, ns=(1, 1))
    first, second = Watched(), Watched()

    verify(record, tmp_path, first)
    verify(reread(tmp_path), tmp_path, second)

    assert (set(first.phases), second.phases) == ({"checking"}, [])


def test_a_file_that_was_replaced_by_a_copy_of_itself_is_right(tmp_path: Path, tiny: Path, record: Record) -> None:
    copy = tmp_path / "copy"
    shutil.copy2(tiny, copy)
    copy.replace(tiny)
    watched = Watched()

    verify(record, tmp_path, watched)

    assert set(watched.phases) == {"checking"}
    assert reread(tmp_path).files[0].inode == tiny.stat().st_ino


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (whole(payload=96), f"it has {len(whole(payload=96))} bytes instead of {len(whole())}"),
        (whole()[:-1] + b"\1", "its sha256 is"),
    ],
    ids=["another size", "another content"],
)
def test_a_changed_file_is_refused(tmp_path: Path, tiny: Path, record: Record, content: bytes, told: str) -> None:
    tiny.write_bytes(content)

    with pytest.raises(PackagedModelError) as raised:
        verify(record, tmp_path)

    assert f"tiny: {tiny} was changed since it was added: " in str(raised.value)
    assert told in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: Path, tiny: Path, record: Record) -> None:
    tiny.unlink()

    with pytest.raises(PackagedModelError, match="No such file"):
        verify(record, tmp_path)


def test_any_part_of_a_model_counts(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"tiny-0000{number}-of-00002.gguf").write_bytes(whole(pair("split.count", U32, u32(2))))
    record, _ = register(Wish(str(tmp_path / "tiny-00001-of-00002.gguf")), tmp_path, {})
    part = record.files[1].path
    part.write_bytes(part.read_bytes()[:-1] + b"\1")

    with pytest.raises(PackagedModelError, match=r"00002-of-00002\.gguf was changed"):
        verify(record, tmp_path)


def test_why_a_model_is_not_the_one_that_was_added_is_told_and_nothing_is_written(
    tmp_path: Path, tiny: Path, record: Record
) -> None:
    written = (tmp_path / "tiny.gguf.json").read_bytes()
    os.utime(tiny, ns=(1, 1))
    of_a_touched_one = why_changed(tiny, tmp_path)
    tiny.write_bytes(whole()[:-1] + b"\1")

    of_a_changed_one = why_changed(tiny, tmp_path)

    assert of_a_touched_one == ""
    assert of_a_changed_one.startswith(f"tiny: {tiny} was changed since it was added: its sha256 is")
    assert why_changed(tmp_path / "another.gguf", tmp_path) == ""
    assert (tmp_path / "tiny.gguf.json").read_bytes() == written


def test_a_packaged_model_is_verified_by_its_manifest(tmp_path: Path, tiny: Path) -> None:
    manifest: dict[str, object] = {"model": "tiny", "package": "p==1", "package_sha256": "x", "sha256": sha256(whole())}
    manifest |= {"size": tiny.stat().st_size, "changed_ns": 5}
    (tmp_path / "tiny.gguf.json").write_text(json.dumps(manifest))

    verify(reread(tmp_path), tmp_path)
    written = json.loads((tmp_path / "tiny.gguf.json").read_text())
    tiny.write_bytes(whole()[:-1] + b"\1")

    assert written == {**manifest, "changed_ns": written["changed_ns"], "inode": tiny.stat().st_ino}
    with pytest.raises(PackagedModelError, match="was changed since it was added"):
        verify(reread(tmp_path), tmp_path)


def test_a_directory_that_may_only_be_read_is_no_hindrance(tmp_path: Path, tiny: Path, record: Record) -> None:
    os.utime(tiny, ns=(1, 1))

    verify(record, tmp_path / "gone")


def test_two_that_add_the_same_model_agree(tmp_path: Path, tiny: Path) -> None:
    with ThreadPoolExecutor(4) as adding:
        done = list(adding.map(lambda _: register(Wish(str(tiny)), tmp_path, {}), range(4)))

    assert sorted(was_there for _, was_there in done) == [False, True, True, True]
    assert len({record.files for record, _ in done}) == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"name": "tiny", "source": "x", "files": []}', "[" * 100_000, '{"package": 1}']
)
def test_a_record_that_says_nothing_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "tiny.gguf.json").write_text(content)

    with pytest.raises(PackagedModelError, match="is damaged"):
        read_record("tiny", tmp_path)


def test_what_a_file_says_of_itself_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    from gateway.packaged import read_facts

    file = tmp_path / "sly.gguf"
    file.write_bytes(whole(pair("general.name", STRING, text("a\x1b[2Jb\n" + "c" * 200))))

    assert read_facts((file,)).title == "a[2Jb" + "c" * 75 + "…"
