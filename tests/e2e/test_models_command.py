"""`gateway models` as people run it: models from a scripted hub, from Ollama, from llama.cpp's cache, from a path.

What goes wrong is one line and exit code 1, and nothing is half there afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.asking import CHAT, ask, post
from tests.support.command import environment, serving
from tests.unit.packaged.scripted_hub import COMMIT, Hub, scripted_hub
from tests.unit.worker.headers import STRING, U32, pair, text, u32, whole

TINY = whole(pair("general.name", STRING, text("Tiny")), pair("general.file_type", U32, u32(2)))
SOURCE = "hf:some-one/tiny.models/tiny-Q4_0.gguf"
HUB_KEY = "some-one/tiny.models/tiny-Q4_0.gguf"


class Shell:
    """A person's machine: a home without caches, and the `gateway models` command in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"HOME": str(home), "HF_HOME": str(home / "hf"), "NO_PROXY": "*"}
        self.largest_file: int | None = None

    @property
    def models(self) -> Path:
        return self.home / "data" / "models"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", "models", *arguments],
            cwd=self.home,
            env={**environment(), **self.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=self._limit,
        )

    def works(self, *arguments: str) -> str:
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def fails(self, *arguments: str) -> str:
        """Return the one line that the command ends with, having left no record."""
        before = self.records()
        ended = self.run(*arguments)
        told = [line for line in ended.stderr.splitlines() if "%|" not in line]  # which is a bar
        assert (ended.returncode, len(told)) == (1, 1), ended.stderr
        assert told[0].startswith("gateway models: ")
        assert self.records() == before
        return told[0].removeprefix("gateway models: ")

    def records(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in self.models.glob("*") if file.suffix != ".lock"}

    def record(self, name: str) -> Any:
        return json.loads((self.models / f"{name}.gguf.json").read_text())

    def put(self, path: str, content: bytes = TINY) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def put_in_ollama(self, reference: str, content: bytes = TINY, **changes: object) -> Path:
        digest = hashlib.sha256(content).hexdigest()
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", **changes}
        manifest = {"layers": [{"mediaType": "application/vnd.ollama.image.template", "digest": "x"}, layer]}
        self.put(f".ollama/models/manifests/registry.ollama.ai/{reference}", json.dumps(manifest).encode())
        return self.put(f".ollama/models/blobs/sha256-{digest}", content)

    def _limit(self) -> None:
        if self.largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "data").mkdir()
    return Shell(tmp_path)


@pytest.fixture
def hub(shell: Shell) -> Iterator[Hub]:
    with scripted_hub() as running:
        running.files[HUB_KEY] = TINY
        shell.environ["HF_ENDPOINT"] = running.url
        yield running


def test_a_file_of_the_hub_is_fetched_pinned_and_written_down(shell: Shell, hub: Hub) -> None:
    said = shell.works("add", SOURCE, "--name", "tiny")

    record = shell.record("tiny")
    (kept,) = record["files"]
    assert said.splitlines()[-1].startswith("tiny: registered where it lies, not copied, ")
    assert said.rstrip().endswith(f"at revision {COMMIT}")
    assert (record["source"], record["revision"]) == (SOURCE, COMMIT)
    assert kept["sha256"] == hashlib.sha256(TINY).hexdigest()
    assert Path(kept["path"]).read_bytes() == TINY
    assert Path(kept["path"]).is_relative_to(shell.home / "hf" / "hub")


def test_what_is_there_is_not_fetched_again(shell: Shell, hub: Hub) -> None:
    shell.works("add", SOURCE)
    hub.seen.clear()

    said = shell.works("add", SOURCE)

    assert said.splitlines()[-1].startswith("tiny-Q4_0: ready already, ")
    assert hub.seen == []


def test_a_revision_can_be_chosen(shell: Shell, hub: Hub) -> None:
    shell.works("add", SOURCE, "--revision", "v1")

    assert hub.seen[0][2] == "/some-one/tiny.models/resolve/v1/tiny-Q4_0.gguf"
    assert shell.record("tiny-Q4_0")["revision"] == COMMIT


def test_all_parts_of_a_model_are_fetched(shell: Shell, hub: Hub) -> None:
    content = whole(pair("split.count", U32, u32(2)))
    for number in (1, 2):
        hub.files[f"a/b/big-0000{number}-of-00002.gguf"] = content

    shell.works("add", "hf:a/b/big-00001-of-00002.gguf")

    files = shell.record("big")["files"]
    assert [Path(file["path"]).name for file in files] == [
        "big-00001-of-00002.gguf",
        "big-00002-of-00002.gguf",
    ]


def test_the_token_goes_to_the_hub_and_to_nobody_else(shell: Shell, hub: Hub) -> None:
    shell.environ["HF_TOKEN"] = "hf_secret"
    hub.moved = True

    shell.works("add", SOURCE)

    to_hub = {token for host, _, _, token in hub.seen if host.startswith("127.0.0.1")}
    elsewhere = {token for host, _, _, token in hub.seen if host.startswith("localhost")}
    assert (to_hub, elsewhere) == ({"Bearer hf_secret"}, {""})
    assert "hf_secret" not in json.dumps(shell.record("tiny-Q4_0"))


def test_no_token_is_looked_for_beyond_the_variable(shell: Shell, hub: Hub) -> None:
    shell.put("hf/token", b"hf_from_a_file")

    shell.works("add", SOURCE)

    assert {token for _, _, _, token in hub.seen} == {""}


def test_a_token_is_not_sent_in_the_clear(shell: Shell) -> None:
    shell.environ |= {"HF_TOKEN": "hf_secret", "HF_ENDPOINT": "http://hub.example"}

    assert shell.fails("add", SOURCE) == (
        f"{SOURCE}: HF_TOKEN is not sent to http://hub.example, which is not https; unset one"
    )


def _status(status: int) -> Callable[[Hub], None]:
    def fail(hub: Hub) -> None:
        hub.status = status

    return fail


def _cut(hub: Hub) -> None:
    hub.cut_at = 40


def _lie(hub: Hub) -> None:
    hub.lie = "0" * 64


def _no_model(hub: Hub) -> None:
    hub.files[HUB_KEY] = b"<html>sign in first</html>"


def _truncated(hub: Hub) -> None:
    hub.files[HUB_KEY] = TINY[:-40]


HUB_FAULTS: dict[str, tuple[Callable[[Hub], None], str]] = {
    "404": (_status(404), "has no such repository, revision or file"),
    "401": (_status(401), "does not give it (401): it does not exist, or needs an account's leave; a token"),
    "500": (_status(500), "failed (500); try again later"),
    "cut in the middle": (_cut, f"{SOURCE}: "),
    "other content than announced": (_lie, "what was fetched is not what the hub has: its sha256 differs"),
    "no GGUF": (_no_model, "not a GGUF file"),
    "truncated": (_truncated, "truncated: needs at least"),
}


@pytest.mark.parametrize(("spoil", "told"), HUB_FAULTS.values(), ids=HUB_FAULTS)
def test_a_hub_that_fails_is_one_line(shell: Shell, hub: Hub, spoil: Callable[[Hub], None], told: str) -> None:
    spoil(hub)

    line = shell.fails("add", SOURCE)

    assert told in line
    assert list(shell.home.rglob("*.incomplete")) == []


def test_after_a_failure_the_same_command_works(shell: Shell, hub: Hub) -> None:
    hub.lie = "0" * 64
    shell.fails("add", SOURCE)
    hub.lie = ""

    assert "registered" in shell.works("add", SOURCE)


def test_a_hub_that_is_not_there_is_one_line(shell: Shell) -> None:
    shell.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"

    assert f"{SOURCE}: 127.0.0.1:9 cannot be reached" in shell.fails("add", SOURCE)


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_nothing_half(shell: Shell, hub: Hub, word: signal.Signals) -> None:
    hub.files[HUB_KEY] = whole(payload=1 << 20)
    hub.stalls = True

    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "models", "add", SOURCE],
        cwd=shell.home,
        env={**environment(), **shell.environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert hub.is_stalled.wait(30)
        assert list(shell.home.rglob("*.incomplete"))
        running.send_signal(word)
        _, told = running.communicate(timeout=30)

    assert running.returncode != 0
    assert "Traceback" not in told
    assert shell.records() == {}
    assert list(shell.home.rglob("*.incomplete")) == []


def test_a_machine_that_is_set_offline_is_one_line(shell: Shell, hub: Hub) -> None:
    shell.environ["HF_HUB_OFFLINE"] = "1"

    assert "cannot be reached" in shell.fails("add", SOURCE)
    assert hub.seen == []


def test_a_disk_without_room_for_the_download_is_one_line(shell: Shell, hub: Hub) -> None:
    hub.files[HUB_KEY] = whole(payload=1 << 20)
    shell.largest_file = 1 << 18

    line = shell.fails("add", SOURCE)

    assert "the system allows no file of this size" in line
    assert list(shell.home.rglob("*.incomplete")) == []


def test_a_disk_without_room_for_the_record_is_one_line(shell: Shell) -> None:
    file = shell.put("tiny.gguf")
    shell.largest_file = 10

    assert "the system allows no file of this size" in shell.fails("add", str(file))


def test_a_path_is_registered_and_not_copied(shell: Shell) -> None:
    file = shell.put("my models/tiny 1.gguf")

    said = shell.works("add", "my models/tiny 1.gguf")

    assert said.splitlines()[-1] == f"tiny-1: registered where it lies, not copied, {file}"
    assert sorted(shell.records()) == ["tiny-1.gguf.json"]


def test_what_is_removed_is_forgotten_and_its_file_stays(shell: Shell) -> None:
    file = shell.put("tiny.gguf")
    shell.works("add", str(file))

    said = shell.works("remove", "tiny")

    assert said == f"tiny: removed; {file} stays where it is\n"
    assert file.read_bytes() == TINY
    assert "tiny.gguf.json" not in shell.records()


@pytest.mark.parametrize("reference", ["ollama:tiny", "ollama:tiny:latest"])
def test_a_model_of_ollama_is_registered(shell: Shell, reference: str) -> None:
    blob = shell.put_in_ollama("library/tiny/latest")

    said = shell.works("add", reference)

    assert said.splitlines()[-1] == f"tiny: registered where it lies, not copied, {blob}"


def test_ollama_may_keep_its_models_elsewhere(shell: Shell) -> None:
    shell.put_in_ollama("someone/tiny/135m")
    (shell.home / ".ollama" / "models").rename(shell.home / "store")
    shell.environ["OLLAMA_MODELS"] = str(shell.home / "store")

    said = shell.works("add", "ollama:someone/tiny:135m", "--name", "mine")

    assert said.splitlines()[-1].startswith(f"mine: registered where it lies, not copied, {shell.home / 'store'}")


def test_the_list_shows_what_was_added_and_what_could_be(shell: Shell) -> None:
    added = shell.put("tiny.gguf")
    shell.put_in_ollama("library/other/7b", whole(payload=96))
    cached = shell.put(".cache/llama.cpp/ggml-org_some.gguf", whole(payload=128))
    fetched = shell.put("hf/hub/models--a--b/snapshots/0/x.gguf", whole(payload=160))
    shell.put("hf/hub/models--a--b/snapshots/0/mmproj-x.gguf", whole(payload=192))
    (shell.home / ".cache/llama.cpp/round.gguf").symlink_to("round.gguf")
    shell.works("add", str(added))

    lines = shell.works("list").splitlines()

    assert f"  tiny: {added}, 0 MB, ready" in lines
    assert lines[lines.index("on this machine, not added:") + 1 :] == [
        "  gateway models add ollama:other:7b  (0 MB)",
        f"  gateway models add {cached}  (0 MB)",
        f"  gateway models add {fetched}  (0 MB)",
    ]


def test_what_is_known_of_a_model_is_told_by_name_and_by_path(shell: Shell) -> None:
    file = shell.put(
        "tiny.gguf",
        whole(pair("tokenizer.chat_template", STRING, text("{% if tools %}")), pair("general.file_type", U32, u32(15))),
    )
    shell.works("add", "tiny.gguf")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    by_name, by_path = shell.works("info", "tiny"), shell.works("info", str(file))

    assert by_name == f"name: tiny\nfrom: {file}\n{by_path}"
    for line in ("architecture: tiny", "parameters: 8", "context window: 64 tokens", "quantisation: Q4_K_M"):
        assert line in by_path.splitlines()
    assert "chat template: with tools" in by_path
    assert f"sha256: {digest}" in by_path


def test_a_changed_file_is_told_of_and_can_be_added_anew(shell: Shell) -> None:
    file = shell.put("tiny.gguf")
    shell.works("add", "tiny.gguf")
    changed = bytearray(TINY)
    changed[-1] = 1
    file.write_bytes(changed)

    assert "was changed since it was added: its sha256 is" in shell.fails("info", "tiny")
    assert "was changed since it was added" in shell.works("list")
    assert "registered" in shell.works("add", "tiny.gguf")
    assert "was changed" not in shell.works("list")


def test_a_change_that_hides_is_found_when_all_is_read(shell: Shell) -> None:
    file = shell.put("tiny.gguf")
    shell.works("add", "tiny.gguf")
    state = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\1")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))

    assert "was changed" not in shell.works("list")
    assert "was changed since it was added" in shell.works("list", "--verify")
    assert "was changed since it was added" in shell.fails("info", "tiny", "--verify")


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such file": (["missing.gguf"], "missing.gguf: no such file"),
    "a directory": (["folder.gguf"], "folder.gguf: not a file"),
    "not a GGUF file": (["text.gguf"], "text.gguf: not a GGUF file"),
    "truncated": (["short.gguf"], "short.gguf: truncated: needs at least"),
    "links in a circle": (["round.gguf"], "round.gguf: "),
    "a part without the others": (["part-00001-of-00002.gguf"], "part-00002-of-00002.gguf: no such file"),
    "a name that leaves the directory": (["tiny.gguf", "--name", "../up"], "'../up' is no name for a model"),
    "a name with a break": (["tiny.gguf", "--name", "a\nb"], "is no name for a model"),
    "a name that is taken": (["other.gguf", "--name", "tiny"], "tiny: the name is taken by "),
    "a packaged model's name": (["tiny.gguf", "--name", "smollm2"], "the name is taken by a packaged model"),
    "the name of a class": (["tiny.gguf", "--name", "small"], "a model cannot have the name of a class"),
    "a name for two": (["tiny.gguf", "other.gguf", "--name", "x"], "--name is for one model"),
    "no file in a repository": (["hf:owner/repo"], "expected hf:owner/repo/file.gguf"),
    "a way out of a repository": (["hf:owner/repo/../../x.gguf"], "expected hf:owner/repo/file.gguf"),
    "a file of another kind": (["hf:owner/repo/x.safetensors"], "expected hf:owner/repo/file.gguf"),
    "too many parts": (["hf:o/r/x-00001-of-99999.gguf"], "a model in 99999 parts is not fetched"),
    "not in Ollama": (["ollama:nope"], "Ollama has no such model in"),
    "a way out of Ollama": (["ollama:../../x"], "expected ollama:NAME or ollama:NAME:TAG"),
    "Ollama's manifest is none": (["ollama:torn"], "ollama:torn: "),
    "Ollama's manifest is deep": (["ollama:deep"], "ollama:deep: "),
    "a digest that is a path": (["ollama:sly"], "has a digest that is none"),
    "a blob that was changed": (["ollama:spoilt"], "its sha256 is not the one that Ollama has for it"),
    "no model at all": (["nope"], "nope: there is no such model; there are minilm, smollm2"),
}


@pytest.mark.parametrize(("arguments", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_lost(shell: Shell, arguments: list[str], told: str) -> None:
    shell.put("tiny.gguf")
    shell.put("other.gguf")
    shell.put("text.gguf", b"Once upon a time")
    shell.put("short.gguf", TINY[:-40])
    shell.put("part-00001-of-00002.gguf", whole(pair("split.count", U32, u32(2))))
    (shell.home / "folder.gguf").mkdir()
    (shell.home / "round.gguf").symlink_to("circle.gguf")
    (shell.home / "circle.gguf").symlink_to("round.gguf")
    shell.put(".ollama/models/manifests/registry.ollama.ai/library/torn/latest", b'{"layers": [')
    shell.put(".ollama/models/manifests/registry.ollama.ai/library/deep/latest", b"[" * 100_000)
    shell.put_in_ollama("library/sly/latest", digest="sha256:../../../../tiny.gguf")
    shell.put_in_ollama("library/spoilt/latest", whole(payload=96)).write_bytes(TINY)
    shell.works("add", "tiny.gguf")

    line = shell.fails("add", *arguments)

    assert told in line


@pytest.mark.parametrize("command", ["info", "remove"])
@pytest.mark.parametrize("name", ["nope", "..%2Fup", "a b"])
def test_a_model_that_is_not_there_is_one_line(shell: Shell, command: str, name: str) -> None:
    assert shell.fails(command, name)


def test_a_damaged_record_is_told_of_and_can_be_removed(shell: Shell) -> None:
    shell.put("tiny.gguf")
    shell.works("add", "tiny.gguf")
    (shell.models / "tiny.gguf.json").write_text('{"name": "tiny"')

    assert "its record" in shell.works("list")
    assert "is damaged; remove the model and add it again" in shell.fails("info", "tiny")
    assert shell.works("remove", "tiny") == "tiny: removed\n"


def test_an_added_model_is_served_by_its_name(shell: Shell, chat_gguf: Path) -> None:
    shell.works("add", str(chat_gguf), "--name", "mine")
    yaml = (
        "providers: {local: {kind: llamacpp, models: {mine: {classes: [small], context_window: 256, parallel: 1}}}}\n"
    )

    with serving(yaml, shell.home) as gateway:
        gateway.wait_for(lambda: gateway.get("/readyz")[0] == 200)
        reply = ask(gateway, "chat/completions", CHAT)

    assert reply["choices"][0]["message"]["content"]


def test_a_model_of_the_hub_is_served_by_its_source(shell: Shell, hub: Hub, chat_gguf: Path) -> None:
    hub.files[HUB_KEY] = chat_gguf.read_bytes()
    shell.works("add", SOURCE, "--name", "other")
    model = f'{{path: "{SOURCE}", classes: [small], context_window: 256, parallel: 1}}'

    with serving(f"providers: {{local: {{kind: llamacpp, models: {{mine: {model}}}}}}}\n", shell.home) as gateway:
        gateway.wait_for(lambda: gateway.get("/readyz")[0] == 200)
        reply = ask(gateway, "chat/completions", CHAT)

    assert reply["choices"][0]["message"]["content"]


def test_a_changed_file_is_not_served(shell: Shell) -> None:
    file = shell.put("tiny.gguf")
    shell.works("add", "tiny.gguf")
    changed = bytearray(TINY)
    changed[-1] = 1
    file.write_bytes(changed)

    with serving("providers: {local: {kind: llamacpp, models: {tiny: {classes: [small]}}}}\n", shell.home) as gateway:
        gateway.wait_for(lambda: gateway.events("model_ended"))
        status, answer = post(gateway, "chat/completions", CHAT)

    (ended,) = gateway.events("model_ended")
    assert f"tiny: {file} was changed since it was added: its sha256 is" in ended["reason"]
    assert status == 503
    assert "its file is not the one that was added" in answer.decode()
    assert str(file) not in answer.decode()
