"""`gateway cache` as people run it, on a data directory that gateways have filled.

What goes wrong is one line and an exit code, and nothing is half there afterwards.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner

from gateway.cache import CacheSettings, Entry, ExportWriter, RedisSettings, Tiers, build_tiers, make_space, pack
from gateway.cli.cache import app
from tests.support.app import running
from tests.support.command import environment
from tests.support.embedding import embed, make_caching, vectors_of
from tests.support.redis_server import redis_server
from tests.support.redis_tier import redis_tier, stored
from tests.support.upstream import ScriptedUpstream

CONFIG = {"providers": {"up": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "x"}}}
NUMBERS = 64
SMALL, LARGE = "up/small", "up/large"
T = TypeVar("T")


class Silent:
    """Counts nothing."""

    def looked_up(self, tier: str, hits: int, misses: int) -> None: ...
    def evicted(self, tier: str, entries: int, reason: str) -> None: ...
    def failed(self, tier: str, operation: str) -> None: ...
    def damaged(self, tier: str, what: str) -> None: ...
    def is_up(self, tier: str, *, up: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command came to."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Shell:
    """A directory with a configuration, and the `gateway cache` command in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.largest_file: int | None = None
        self.is_apart = False  # every command is a process of its own
        home.mkdir(exist_ok=True)
        self.configure()

    def configure(self, **sections: Any) -> None:
        (self.home / "gateway.yaml").write_text(json.dumps({**CONFIG, **sections}))

    def run(self, *arguments: str, given: bytes = b"") -> Ended:
        """Run the command to its end, in this process where nothing depends on which it is: that takes half a second less."""
        if self.is_apart or self.largest_file is not None:
            return self._run_apart(arguments, given)
        before = signal.getsignal(signal.SIGTERM)
        with chdir(self.home):
            result = CliRunner().invoke(app, arguments, input=given)
        signal.signal(signal.SIGTERM, before)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout_bytes, result.stderr_bytes)

    def works(self, *arguments: str) -> list[str]:
        """Return the lines that were printed."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr.decode()
        return (ended.stdout + ended.stderr).decode().splitlines()

    def fails(self, *arguments: str, given: bytes = b"") -> str:
        """Return the one line that says why."""
        ended = self.run(*arguments, given=given)
        assert (ended.returncode, ended.stdout) == (1, b""), ended
        (line,) = ended.stderr.decode().splitlines()
        assert line.startswith("gateway cache: ")
        return line.removeprefix("gateway cache: ")

    def do(self, work: Callable[[Tiers], Coroutine[Any, Any, T]]) -> T:
        """Do something with the tiers of this directory, as a gateway of its own would."""

        async def done() -> T:
            settings = CacheSettings(memory=None)
            tiers = build_tiers(
                settings, RedisSettings(), self.home / "data", Silent(), now=time.time, dice=random.random
            )
            try:
                return await work(tiers)
            finally:
                await tiers.close()

        return asyncio.run(done())

    def remember(self, label: str, *texts: str, until: int = 0) -> None:
        async def put(tiers: Tiers) -> None:
            tiers.remember([entry_of(label, text, until=until) for text in texts], space_of(label))

        self.do(put)

    def remembered(self, label: str, *texts: str) -> dict[str, Entry]:
        """Return what there is of these texts."""

        async def ask(tiers: Tiers) -> dict[bytes, Entry]:
            keys = [space_of(label).key(text) for text in texts]
            return (await tiers.recall(keys, space_of(label))).entries

        found = self.do(ask)
        return {text: found[key] for text in texts if (key := space_of(label).key(text)) in found}

    def _run_apart(self, arguments: Sequence[str], given: bytes) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "cache", *arguments],
            cwd=self.home,
            env=environment(),
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
            preexec_fn=self._limit,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def _limit(self) -> None:
        if self.largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))


def space_of(label: str) -> Any:
    return make_space(scope="", label=label, revision="", fields={})


def entry_of(label: str, text: str, *, until: int = 0) -> Entry:
    dice = random.Random(hashlib.sha256(text.encode()).digest())
    vector = struct.pack(f"<{NUMBERS}f", *(dice.gauss(0, 1) for _ in range(NUMBERS)))
    space = space_of(label)
    return Entry(space.key(text), space.id, vector, 3, 1, 1_800_000_000, until)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "here")


@pytest.fixture
def other(tmp_path: Path) -> Shell:
    """Another person's machine."""
    return Shell(tmp_path / "there")


def test_stats_tell_what_is_kept_and_of_which_model(shell: Shell) -> None:
    shell.is_apart = True
    shell.remember(SMALL, "a", "b")
    shell.remember(LARGE, "c")

    lines = shell.works("stats")
    report = json.loads("".join(shell.works("stats", "--json")))

    assert lines[0].startswith("disk: 3 entries, 0.")
    assert lines[0].endswith(" MiB of at most 2,048.0 MiB")
    assert [line.split(",")[0] for line in lines[1:]] == ["models:", "  up/large: 1 entry", "  up/small: 2 entries"]
    assert [(model["model"], model["entries"]) for model in report["models"]] == [(LARGE, 1), (SMALL, 2)]
    (tier,) = report["tiers"]
    assert (tier["tier"], tier["entries"], tier["max_bytes"], tier["trouble"]) == ("disk", 3, 2048 << 20, None)
    assert 0 < tier["bytes"] < 1 << 20


def test_stats_of_a_place_where_nothing_was_remembered_make_nothing(shell: Shell) -> None:
    assert shell.works("stats") == ["disk: 0 entries, 0.0 MiB of at most 2,048.0 MiB"]
    assert not (shell.home / "data").exists()


def test_clear_forgets_one_model_or_everything(shell: Shell) -> None:
    shell.remember(SMALL, "a", "b")
    shell.remember(LARGE, "c")

    one = shell.works("clear", "--model", SMALL)
    left = list(shell.remembered(SMALL, "a", "b")), list(shell.remembered(LARGE, "c"))
    rest = shell.works("clear")

    assert one == ["disk: 2 entries forgotten"]
    assert left == ([], ["c"])
    assert rest == ["disk: 1 entry forgotten"]
    assert shell.remembered(LARGE, "c") == {}


def test_a_model_that_cannot_be_one_clears_nothing(shell: Shell) -> None:
    shell.remember(SMALL, "a")

    line = shell.fails("clear", "--model", "small")

    assert line == "small: expected provider/model, as `gateway cache stats` shows them"
    assert list(shell.remembered(SMALL, "a")) == ["a"]


def test_what_one_exports_another_imports_to_the_bit(shell: Shell, other: Shell) -> None:
    texts = [str(number) for number in range(300)]
    shell.remember(SMALL, *texts)
    shell.remember(LARGE, "a", "b")
    other.remember(SMALL, "own")

    exported = shell.works("export", "team.gwcache")
    imported = other.works("import", str(shell.home / "team.gwcache"))

    assert exported == ["302 entries exported"]
    assert imported == ["302 entries kept"]
    assert other.remembered(SMALL, *texts) == {text: entry_of(SMALL, text) for text in texts}
    assert list(other.remembered(SMALL, "own")) == ["own"]
    assert other.remembered(LARGE, "a", "b") == shell.remembered(LARGE, "a", "b")
    assert [file.name for file in shell.home.iterdir() if "gwcache" in file.name] == ["team.gwcache"]


def test_export_and_import_work_in_a_pipe(shell: Shell, other: Shell) -> None:
    shell.is_apart = other.is_apart = True
    shell.remember(SMALL, "a", "b")

    exported = shell.run("export", "-")
    imported = other.run("import", "-", given=exported.stdout)

    assert (exported.returncode, exported.stderr) == (0, b"2 entries exported\n")
    assert (imported.returncode, imported.stderr) == (0, b"2 entries kept\n")
    assert list(other.remembered(SMALL, "a", "b")) == ["a", "b"]


def test_importing_twice_changes_nothing(shell: Shell) -> None:
    shell.remember(SMALL, "a", "b")
    shell.works("export", "mine")

    shell.works("import", "mine")

    assert shell.works("stats")[2].startswith("  up/small: 2 entries")


def test_what_its_caller_limited_in_time_does_not_come_back_after_it(shell: Shell) -> None:
    now = int(time.time())
    with (shell.home / "team").open("wb") as file:
        writer = ExportWriter(file)
        for text, until in (("a", now - 1), ("b", now + 1000), ("c", 0)):
            writer.add(SMALL, pack(entry_of(SMALL, text, until=until)))
        writer.finish()

    imported = shell.works("import", "team")

    assert imported == ["2 entries kept, 1 left out whose time is over"]
    assert shell.remembered(SMALL, "a", "b", "c") == {
        "b": entry_of(SMALL, "b", until=now + 1000),
        "c": entry_of(SMALL, "c"),
    }


def test_a_damaged_record_ends_the_import_and_those_before_it_are_kept(shell: Shell, other: Shell) -> None:
    texts = [str(number) for number in range(100)]
    shell.remember(SMALL, *texts)
    shell.works("export", "mine")
    data = (shell.home / "mine").read_bytes()
    plain = bytearray(gzip.decompress(data[8:]))
    plain[len(plain) // 2] ^= 1
    damaged = data[:8] + gzip.compress(bytes(plain))

    line = other.fails("import", "-", given=damaged)

    record = int(line.removeprefix("record ").split(":")[0])
    assert line == f"record {record}: its checksum or its form is wrong; {record - 1} entries kept"
    assert len(other.remembered(SMALL, *texts)) == record - 1
    assert 40 < record < 60


def test_a_cut_file_ends_the_import_and_what_was_whole_is_kept(shell: Shell, other: Shell) -> None:
    shell.remember(SMALL, *(str(number) for number in range(20)))
    shell.works("export", "mine")
    data = (shell.home / "mine").read_bytes()

    line = other.fails("import", "-", given=data[: len(data) * 3 // 4])

    record = int(line.removeprefix("record ").split(":")[0])
    assert line == f"record {record}: the file ends in it; {record - 1} entries kept"
    assert other.works("stats")[0].startswith(f"disk: {record - 1} entries")


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such file": (["import", "nope"], "nope: No such file or directory"),
    "another file": (["import", "gateway.yaml"], "this is no export of embeddings; 0 entries kept"),
    "a directory": (["import", "."], ".: Is a directory"),
    "no place for it": (["export", "no/where"], "no/where.incomplete: No such file or directory"),
}


@pytest.mark.parametrize(("arguments", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(shell: Shell, arguments: list[str], told: str) -> None:
    assert shell.fails(*arguments) == told


def test_an_export_that_does_not_fit_leaves_nothing_behind(shell: Shell) -> None:
    shell.remember(SMALL, *(str(number) for number in range(300)))
    shell.largest_file = 20_000

    shell.fails("export", "mine")

    assert [file.name for file in shell.home.iterdir() if "mine" in file.name] == []


def test_what_is_no_file_is_written_to_and_never_replaced(shell: Shell) -> None:
    shell.remember(SMALL, "a", "b")
    shell.works("export", "mine")
    (shell.home / "linked").symlink_to("target")
    (shell.home / "target").write_text("old")
    os.mkfifo(shell.home / "pipe")
    with ThreadPoolExecutor() as threads:
        reading = threads.submit((shell.home / "pipe").read_bytes)

        through_pipe = shell.works("export", "pipe")
        nowhere = shell.works("export", "/dev/null")
        through_link = shell.works("export", "linked")

    assert through_pipe == nowhere == through_link == ["2 entries exported"]
    assert reading.result() == (shell.home / "target").read_bytes() == (shell.home / "mine").read_bytes()
    assert (shell.home / "pipe").is_fifo()
    assert (shell.home / "linked").is_symlink()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_export_leaves_nothing_behind(shell: Shell, word: signal.Signals) -> None:
    shell.remember(SMALL, *(str(number) for number in range(600)))
    unfinished = shell.home / "mine.incomplete"
    os.mkfifo(unfinished)  # what is written to it waits for a reader

    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "cache", "export", "mine"],
        cwd=shell.home,
        env=environment(),
        stderr=subprocess.PIPE,
    ) as running:
        with unfinished.open("rb") as reader:
            reader.read(8)
            running.send_signal(word)
        _, told = running.communicate(timeout=30)

    assert running.returncode != 0
    assert b"Traceback" not in told
    assert [file.name for file in shell.home.iterdir() if "mine" in file.name] == []


def test_an_import_that_does_not_fit_says_so(shell: Shell, other: Shell) -> None:
    shell.remember(SMALL, *(str(number) for number in range(300)))
    shell.works("export", "mine")
    other.largest_file = 65_536

    line = other.fails("import", str(shell.home / "mine"))

    assert line.startswith("disk: ")
    assert line.endswith("; not everything is kept")


def test_a_reader_that_goes_away_is_one_line(shell: Shell) -> None:
    shell.remember(SMALL, *(str(number) for number in range(1000)))

    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "cache", "export", "-"],
        cwd=shell.home,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        told = running.stderr.read().decode()

    assert (running.returncode, told) == (1, "gateway cache: Broken pipe\n")


@pytest.mark.parametrize("command", [["stats"], ["import", "gateway.yaml"]], ids=str)
def test_where_nothing_is_remembered_it_says_so(shell: Shell, command: list[str]) -> None:
    shell.configure(embeddings={"cache": None})

    assert shell.fails(*command) == "embeddings.cache is off: nothing is remembered"


def test_without_a_disk_there_is_nothing_to_share(shell: Shell) -> None:
    shell.configure(embeddings={"cache": {"disk": None}})

    assert shell.fails("export", "x") == "embeddings.cache.disk is off: there is nothing to export from or import to"
    assert shell.works("stats") == ["nothing is remembered beyond the memory of each process"]


def test_a_redis_that_is_gone_is_told_of_and_not_waited_for(shell: Shell) -> None:
    shell.configure(redis={"url": "redis://:canary-password@127.0.0.1:9/0"})
    shell.remember(SMALL, "a")

    lines = shell.works("stats")
    cleared = shell.run("clear")

    assert lines[0].startswith("disk: 1 entry")
    assert lines[1].startswith("redis: ")
    assert "canary" not in f"{lines} {cleared}"
    assert (cleared.returncode, cleared.stdout) == (1, b"disk: 1 entry forgotten\n")
    assert cleared.stderr.startswith(b"gateway cache: redis: ")
    assert cleared.stderr.endswith(b"; not everything is forgotten there\n")
    assert shell.remembered(SMALL, "a") == {}


def test_a_configuration_that_cannot_be_used_is_told_as_everywhere(shell: Shell) -> None:
    shell.configure(embeddings={"cache": {"disk": {"max_mb": 0}}})

    ended = shell.run("stats")

    assert (ended.returncode, ended.stdout) == (78, b"")
    assert "gateway.yaml:1: embeddings.cache.disk.max_mb: " in ended.stderr.decode()


def test_another_configuration_is_used_where_it_is_named(shell: Shell, other: Shell) -> None:
    shell.remember(SMALL, "a")

    lines = other.works("stats", "--config", str(shell.home / "gateway.yaml"))

    assert lines[0].startswith("disk: 1 entry")


async def test_a_running_gateway_follows_what_the_command_does(shell: Shell) -> None:
    shell.is_apart = True
    server = {"data_dir": str(shell.home / "data")}
    async with (
        ScriptedUpstream() as upstream,
        running(make_caching(upstream, embeddings={}, server=server)) as gateway,
    ):
        first = vectors_of(await embed(gateway, ["a", "b"]))
        while "2 entries" not in (await asyncio.to_thread(shell.works, "stats"))[0]:
            pass
        exported = await asyncio.to_thread(shell.works, "export", "mine")
        cleared = await asyncio.to_thread(shell.works, "clear", "--model", "up0/model")
        while (await embed(gateway, ["a", "b"], cache="only-if-cached")).status == 200:
            await asyncio.sleep(0.02)
        imported = await asyncio.to_thread(shell.works, "import", "mine")
        again = await embed(gateway, ["a", "b"])

    assert (exported, cleared, imported) == (
        ["2 entries exported"],
        ["disk: 2 entries forgotten"],
        ["2 entries kept"],
    )
    assert vectors_of(again) == first
    assert again.headers["x-gateway-cache"] == "hits=2 misses=0 disk=2"
    assert len(upstream.requests) == 1


async def test_redis_is_cleared_as_well(shell: Shell, tmp_path: Path) -> None:
    shell.is_apart = True
    async with redis_server(tmp_path) as server:
        shell.configure(redis={"url": server.url})
        async with redis_tier(server.url) as (tier, _):
            await stored(tier, [entry_of(SMALL, "a"), entry_of(SMALL, "b")], SMALL)

        lines = await asyncio.to_thread(shell.works, "stats")
        cleared = await asyncio.to_thread(shell.works, "clear", "--model", SMALL)
        left = await server.ask("DBSIZE")

    assert lines[1] == "redis: answers"
    assert cleared == ["disk: 0 entries forgotten", "redis: 2 entries forgotten"]
    assert left == 0
