"""What a local model gives its callers: tokens per second and the wait for the first one, alone and in company.

Every system has the same model, the same prompts and the same two threads, and they take turns, so that the figures can
be held against each other. Times here are what callers see; the processor is always busy.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.load import LOOPBACK
from bench.systems import START_DEADLINE_SECONDS, STOP_DEADLINE_SECONDS, BenchError, free_port

CALLERS = 8
THREADS = 2
TOKENS = 48
WINDOW = 2048
MODEL = "m"

_TOPICS = ("tea", "rain", "owls", "bread", "maps", "glass", "clocks", "salt", "trains", "ink", "bees", "snow")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system answers: a URL, and the Unix socket behind it where there is one."""

    name: str
    url: str
    socket: Path | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: seconds to the first token and to the last, and how many there were."""

    first: float
    whole: float
    tokens: int


@dataclass(slots=True)
class Turns:
    """What one system gave, turn by turn: tokens per second alone and in company, seconds to first tokens, seconds that the loop was late."""

    alone: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    first_alone: list[float] = field(default_factory=list)
    first_together: list[float] = field(default_factory=list)
    lag: list[float] = field(default_factory=list)


@contextmanager
def model_process(model: Path, directory: Path, engine: str, slots: int) -> Iterator[Place]:
    """Run a model process as the gateway does, `slots` requests at once."""
    name = f"{engine}, {slots} at once"
    path = directory / f"{engine[:2]}{slots}.sock"
    options = ("--slots", str(slots), "--context-window", str(WINDOW), "--threads", str(THREADS), "--engine", engine)
    argv = [sys.executable, "-m", "gateway.worker", "--model", str(model), "--socket", str(path), "--name", MODEL]
    with _running([*argv, *options, "--max-waiting", "1000"], directory / f"{name}.log"):
        _until(lambda: _listens(path), name)
        yield Place(name, "http://model", path)


@contextmanager
def gateway(model: Path, directory: Path) -> Iterator[Place]:
    """Run the gateway before a model process with CALLERS at once."""
    port = free_port()
    entry = f'{{path: "{model}", parallel: {CALLERS}, context_window: {WINDOW}, threads: {THREADS}, max_waiting: 1000}}'
    config = directory / "local.yaml"
    config.write_text(
        f'server: {{host: {LOOPBACK}, port: {port}, data_dir: "{directory / "data"}"}}\n'
        f"providers: {{local: {{kind: llamacpp, models: {{{MODEL}: {entry}}}}}}}\n"
        f"models: {{{MODEL}: {{deployments: [local/{MODEL}]}}}}\n"
    )
    argv = [str(Path(sys.executable).parent / "gateway"), "serve", "--config", str(config)]
    with _running(argv, directory / "gateway.log"):
        url = f"http://{LOOPBACK}:{port}"
        _until(lambda: _answers(f"{url}/readyz"), "the gateway")
        yield Place("gateway", url)


@contextmanager
def other_server(model: Path, directory: Path) -> Iterator[Place]:
    """Run llama-cpp-python's own server."""
    port = free_port()
    options = ["--model", str(model), "--n_ctx", str(WINDOW), "--n_threads", str(THREADS), "--port", str(port)]
    argv = [sys.executable, "-m", "llama_cpp.server", *options, "--interrupt_requests", "False"]
    with _running(argv, directory / "llama_cpp_server.log"):
        url = f"http://{LOOPBACK}:{port}"
        _until(lambda: _answers(f"{url}/v1/models"), "llama_cpp.server")
        yield Place("llama_cpp.server", url)


def systems(model: Path, directory: Path) -> tuple[Sequence[AbstractContextManager[Place]], list[str]]:
    """Return what is to be run, and a remark on each that is not installed."""
    found = [
        model_process(model, directory, "xllamacpp", CALLERS),
        model_process(model, directory, "xllamacpp", 1),
        gateway(model, directory),
    ]
    remarks = []
    if find_spec("llama_cpp") is not None:
        found.append(model_process(model, directory, "llama-cpp-python", CALLERS))
    else:
        remarks.append("the engine llama-cpp-python was not measured: gateway engine build")
    if all(find_spec(name) is not None for name in ("llama_cpp", "fastapi", "uvicorn", "sse_starlette")):
        found.append(other_server(model, directory))
    else:
        remarks.append("llama_cpp.server was not measured: it needs llama-cpp-python's extra `server`")
    return found, remarks


async def take_turns(places: Sequence[Place], turns: int, each: int) -> dict[str, Turns]:
    """Ask every system alone and with CALLERS at once, `each` requests of every caller, `turns` times after one to warm up."""
    found = {place.name: Turns() for place in places}
    for turn in range(turns + 1):
        for place in places if turn % 2 else reversed(places):
            async with _session(place) as session:
                alone, took = await _load(session, place, 1, 2 * each, turn)
                together, took_together = await _load(session, place, CALLERS, each, turn)
                lag = await _lag(session, place, turn) if place.name == "gateway" else []
            if turn:
                series = found[place.name]
                series.alone.append(sum(answer.tokens for answer in alone) / took)
                series.together.append(sum(answer.tokens for answer in together) / took_together)
                series.first_alone += [answer.first for answer in alone]
                series.first_together += [answer.first for answer in together]
                series.lag += lag
    return found


def at_95(seconds: Sequence[float]) -> float:
    """Return the 95th percentile."""
    ordered = sorted(seconds)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of each turn."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def _session(place: Place) -> aiohttp.ClientSession:
    # llama.cpp's own server leaves a connection unusable after a stream.
    connector = (
        aiohttp.UnixConnector(str(place.socket), force_close=True, limit=0)
        if place.socket
        else aiohttp.TCPConnector(limit=0, force_close=True)
    )
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600))


async def _load(
    session: aiohttp.ClientSession, place: Place, callers: int, each: int, turn: int
) -> tuple[list[Answered], float]:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_call(session, place, f"{turn}-{number}", each)) for number in range(callers)]
    return [answer for task in tasks for answer in task.result()], time.perf_counter() - began


async def _call(session: aiohttp.ClientSession, place: Place, name: str, each: int) -> list[Answered]:
    return [await _ask(session, place, f"{name}-{number}") for number in range(each)]


async def _ask(session: aiohttp.ClientSession, place: Place, name: str) -> Answered:
    topics = " and ".join(_TOPICS[(hash(name) + step) % len(_TOPICS)] for step in range(6))
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"({name}) Write a long story about {topics}, with many details."}],
        "temperature": 0,
        "max_tokens": TOKENS,
        "stream": True,
    }
    began = time.perf_counter()
    first, tokens = 0.0, 0
    async with session.post(f"{place.url}/v1/chat/completions", json=body) as reply:
        if reply.status != 200:
            raise BenchError(f"{place.name} answered {reply.status}: {(await reply.text())[:200]}")
        async for line in reply.content:
            if line.startswith(b"data: {") and _says_something(line):
                first = first or time.perf_counter() - began
                tokens += 1
    if not tokens:
        raise BenchError(f"{place.name} answered nothing")
    return Answered(first, time.perf_counter() - began, tokens)


def _says_something(line: bytes) -> bool:
    choices = json.loads(line[6:]).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))


async def _lag(session: aiohttp.ClientSession, place: Place, turn: int) -> list[float]:
    """Return by how much the gateway's event loop was late at most, in 99 of 100 looks, while its model wrote for all."""
    before = await lag_buckets(session, place.url)
    await _load(session, place, CALLERS, 1, turn + 1000)
    after = await lag_buckets(session, place.url)
    return [percentile({bound: count - before.get(bound, 0.0) for bound, count in after.items()}, 0.99)]


async def lag_buckets(session: aiohttp.ClientSession, url: str) -> dict[float, float]:
    """Return how often the gateway's event loop was late by how many seconds at most, cumulative."""
    async with session.get(f"{url}/metrics") as reply:
        page = await reply.text()
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(page)
        if family.name == "gateway_event_loop_lag_seconds"
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }


def percentile(buckets: Mapping[float, float], share: float) -> float:
    """Return the value that `share` of a histogram is below, evenly spread in its bucket; `buckets` are cumulative."""
    wanted = max(buckets.values()) * share
    low = below = 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted:
            return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


@contextmanager
def _running(argv: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("wb") as noise:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=noise, stderr=noise, env=dict(os.environ))
        try:
            yield
        except BenchError as error:
            raise BenchError(f"{error}: {log.read_text(errors='replace')[-500:]}") from None
        finally:
            process.terminate()
            try:
                process.wait(STOP_DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until(is_there: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            raise BenchError(f"{name} did not start")
        time.sleep(0.05)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(str(path)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
