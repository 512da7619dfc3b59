"""The model process on real models, spoken to directly over its socket: what the gateway relies on."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import itertools
import json
import math
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

from tests.support.worker import Client, Worker, client_of, command, running, start, stop

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
WINDOW = 2048
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def chat_worker(chat_gguf: Path) -> Iterator[Worker]:
    with running(chat_gguf, "--context-window", str(WINDOW)) as worker:
        yield worker


@pytest.fixture(scope="module")
def embedding_worker(embedding_gguf: Path) -> Iterator[Worker]:
    with running(embedding_gguf, "--embedding") as worker:
        yield worker


@pytest.fixture
async def chat(chat_worker: Worker) -> AsyncIterator[Client]:
    async with client_of(chat_worker) as client:
        yield client


@pytest.fixture
async def embedder(embedding_worker: Worker) -> AsyncIterator[Client]:
    async with client_of(embedding_worker) as client:
        yield client


def ask(text: str = "Say hello.", **fields: Any) -> dict[str, Any]:
    """A chat request that is answered the same way each time: greedy, and on a prompt that is computed anew."""
    return {
        "model": "any",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 12,
        "temperature": 0,
        "cache_prompt": False,
    } | fields


async def answer(client: Client, text: str = "Say hello.", **fields: Any) -> str:
    status, body = await client.post(CHAT, ask(text, **fields))
    assert status == 200, body
    content = body["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


async def tokenize(worker: Worker, **fields: Any) -> list[int]:
    """Return the ids of a text; llama.cpp's own server knows them, the front does not pass this on."""
    engine = dataclasses.replace(worker, socket=worker.socket.with_name(f"{worker.socket.stem}-engine.sock"))
    async with client_of(engine) as client:
        _, body = await client.post("/tokenize", fields)
    ids = body["tokens"]
    assert isinstance(ids, list)
    return ids


# Ready


def test_it_reports_what_it_serves(chat_worker: Worker, embedding_worker: Worker) -> None:
    chat, embedding = chat_worker.ready, embedding_worker.ready

    assert (chat["model"], chat["engine"], chat["architecture"]) == ("smollm2", "xllamacpp", "llama")
    assert (chat["context_window"], chat["slots"], chat["embedding"]) == (WINDOW, 4, False)
    assert (embedding["context_window"], embedding["slots"], embedding["dimensions"]) == (512, 1, 384)


async def test_it_is_healthy(chat: Client) -> None:
    assert await chat.get("/health") == 200


# Chat


async def test_a_chat_is_answered_with_its_usage(chat: Client) -> None:
    status, body = await chat.post(CHAT, ask())

    assert status == 200
    assert (body["object"], body["model"]) == ("chat.completion", "smollm2")
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert "hello" in body["choices"][0]["message"]["content"].lower()
    usage = body["usage"]
    assert usage["prompt_tokens"] > 20
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_stream_tells_the_same_text(chat: Client) -> None:
    plain = await answer(chat)

    events = [event async for event in chat.stream(CHAT, ask())]

    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content") or "" for delta in deltas) == plain
    assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert all("usage" not in event for event in events)


async def test_a_stream_ends_with_its_usage_when_asked(chat: Client) -> None:
    events = [event async for event in chat.stream(CHAT, ask(stream_options={"include_usage": True}))]

    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 12


async def test_max_tokens_ends_the_answer(chat: Client) -> None:
    _, body = await chat.post(CHAT, ask("Tell a long story.", max_tokens=5))

    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"


async def test_a_stop_string_ends_the_answer_and_is_left_out(chat: Client) -> None:
    whole = await answer(chat, max_tokens=24)
    word = whole.split()[2]

    _, body = await chat.post(CHAT, ask(max_tokens=24, stop=[word]))

    assert body["choices"][0]["message"]["content"] == whole[: whole.index(word)]
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_a_seed_repeats_an_answer_and_another_one_does_not(chat: Client) -> None:
    one, again, other = [await answer(chat, temperature=1.5, seed=seed, max_tokens=20) for seed in (7, 7, 8)]

    assert one == again
    assert one != other


async def test_a_tiny_top_p_leaves_only_the_likeliest_token(chat: Client) -> None:
    greedy = await answer(chat)

    assert await answer(chat, temperature=1.5, top_p=1e-6, seed=1) == greedy


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
async def test_a_penalty_keeps_words_from_coming_back(chat: Client, penalty: str) -> None:
    text = "Write the word banana ten times."
    free = await answer(chat, text, max_tokens=40)

    held = await answer(chat, text, max_tokens=40, **{penalty: 2})

    assert held.lower().count("banana") < free.lower().count("banana")


async def test_a_logit_bias_forces_a_token(chat: Client, chat_worker: Worker) -> None:
    first = (await tokenize(chat_worker, content="banana"))[0]

    forced = await answer(chat, max_tokens=1, logit_bias={str(first): 100})

    assert "banana".startswith(forced)


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}},
        {"type": "json_object", "schema": SCHEMA},
    ],
    ids=["json_schema", "json_object with a schema"],
)
async def test_an_answer_follows_a_json_schema(chat: Client, response_format: dict[str, Any]) -> None:
    text = await answer(chat, "Invent a person.", response_format=response_format, max_tokens=80)

    person = json.loads(text)
    assert person.keys() == {"name", "age"}
    assert isinstance(person["age"], int)


async def test_an_answer_is_some_json_object_when_asked(chat: Client) -> None:
    text = await answer(chat, "Invent a person, as JSON.", response_format={"type": "json_object"}, max_tokens=200)

    assert isinstance(json.loads(text), dict)


async def test_a_schema_that_makes_no_sense_is_refused(chat: Client) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}

    status, body = await chat.post(CHAT, ask(response_format=response_format))

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert "unrecognized type nonsense" in body["error"]["message"]


async def test_logprobs_tell_each_token_and_its_rivals(chat: Client) -> None:
    _, body = await chat.post(CHAT, ask(logprobs=True, top_logprobs=3, max_tokens=4))

    choice = body["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    for token in tokens:
        assert len(token["top_logprobs"]) == 3
        assert token["logprob"] == max(rival["logprob"] for rival in token["top_logprobs"]) <= 0
        assert bytes(token["bytes"]).decode() == token["token"]


async def test_two_answers_are_given_when_asked(chat: Client) -> None:
    _, body = await chat.post(CHAT, ask(n=2, temperature=1.2, seed=3, max_tokens=4))

    assert [choice["index"] for choice in body["choices"]] == [0, 1]


async def test_a_request_over_the_window_is_refused(chat: Client) -> None:
    status, body = await chat.post(CHAT, ask("word " * (WINDOW + 100)))

    assert status == 400
    assert body["error"]["type"] == "exceed_context_size_error"
    assert body["error"]["n_prompt_tokens"] > body["error"]["n_ctx"] == WINDOW


async def test_each_request_has_the_whole_window(chat_gguf: Path) -> None:
    long = "word " * 300
    with running(chat_gguf, "--context-window", "512", "--slots", "3") as worker:
        async with client_of(worker) as client:
            replies = await asyncio.gather(*(client.post(CHAT, ask(f"{n} {long}", max_tokens=20)) for n in range(3)))

    assert [status for status, _ in replies] == [200] * 3


@pytest.mark.parametrize("prompt", ["One two three", [4054, 827, 1296]], ids=["text", "tokens"])
async def test_a_prompt_is_completed(chat: Client, prompt: object) -> None:
    status, body = await chat.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 4, "temperature": 0})

    assert status == 200
    assert (body["object"], body["usage"]["completion_tokens"]) == ("text_completion", 4)
    assert body["choices"][0]["text"]


async def test_token_ids_outside_the_vocabulary_are_refused(chat: Client) -> None:
    status, body = await chat.post(COMPLETIONS, {"prompt": [10**7], "max_tokens": 1})

    assert (status, body["error"]["message"]) == (400, "Prompt contains invalid tokens")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"messages": 5}', b'{"messages":[{"role":"user"}]}', b"\xff"])
async def test_a_body_that_is_no_request_is_refused(chat: Client, raw: bytes) -> None:
    status, body = await chat.post(CHAT, raw)

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("path", ["/", "/slots", "/metrics", "/props"])
async def test_what_nobody_needs_is_off(chat: Client, path: str) -> None:
    assert await chat.get(path) == 404


# Together and alone


async def test_four_answers_are_written_together(chat: Client) -> None:
    order: list[int] = []

    async def follow(number: int) -> None:
        async for _ in chat.stream(CHAT, ask(f"Tell story {number}.", max_tokens=40, ignore_eos=True)):
            order.append(number)

    await asyncio.gather(*(follow(number) for number in range(4)))

    latest_start = max(order.index(number) for number in range(4))
    earliest_end = min(len(order) - 1 - order[::-1].index(number) for number in range(4))
    assert latest_start < earliest_end
    turns = sum(one != other for one, other in itertools.pairwise(order))
    assert turns > 40


async def test_health_is_told_while_many_wait(chat: Client) -> None:
    endless = ask(max_tokens=WINDOW, ignore_eos=True)
    waiting = [asyncio.create_task(chat.post(CHAT, endless)) for _ in range(100)]
    try:
        for _ in range(5):
            await asyncio.sleep(0.1)

            assert await asyncio.wait_for(chat.get("/health"), 3) == 200
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_caller_who_leaves_frees_the_place(chat_gguf: Path) -> None:
    """The place is the only one and the abandoned answers would each take minutes."""
    endless = ask("Tell a story.", max_tokens=8000, ignore_eos=True)
    with running(chat_gguf, "--slots", "1") as worker:
        async with client_of(worker) as client:
            stream = client.stream(CHAT, endless)
            await anext(stream)
            await stream.aclose()
            plain = asyncio.create_task(client.post(CHAT, endless))
            await asyncio.sleep(0.5)
            plain.cancel()

            status, body = await asyncio.wait_for(client.post(CHAT, ask(max_tokens=3)), 20)

    assert (status, body["usage"]["completion_tokens"]) == (200, 3)


# Embeddings


async def embed(client: Client, inputs: object, **fields: Any) -> list[list[float]]:
    status, body = await client.post(EMBEDDINGS, {"model": "any", "input": inputs, **fields})
    assert status == 200, body
    assert [entry["index"] for entry in body["data"]] == list(range(len(body["data"])))
    return [entry["embedding"] for entry in body["data"]]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_a_vector_has_384_dimensions_and_length_one(embedder: Client) -> None:
    (vector,) = await embed(embedder, "The ship left the harbour.")

    assert len(vector) == 384
    assert math.isclose(cosine(vector, vector), 1, abs_tol=1e-5)


async def test_like_is_near_and_unlike_is_far(embedder: Client) -> None:
    ship, vessel, tax = await embed(
        embedder, ["The ship left the harbour.", "A vessel departed from the port.", "Taxes are due in April."]
    )

    assert cosine(ship, vessel) > 0.6 > 0.3 > cosine(ship, tax)


async def test_tokens_give_the_vector_of_their_text(embedder: Client, embedding_worker: Worker) -> None:
    ids = await tokenize(embedding_worker, content="hello world", add_special=True)

    text, tokens, lists = [await embed(embedder, given) for given in ("hello world", ids, [ids, ids])]

    assert tokens == text
    assert lists == [*text, *text]


async def test_base64_holds_the_same_floats(embedder: Client) -> None:
    (floats,) = await embed(embedder, "hello")

    (encoded,) = await embed(embedder, "hello", encoding_format="base64")

    assert list(struct.unpack("<384f", base64.b64decode(str(encoded)))) == pytest.approx(floats, abs=1e-7)


async def test_a_vector_does_not_depend_on_its_neighbours(embedder: Client) -> None:
    texts = [f"{number} " + "word bird tree " * (number * 7 % 40) for number in range(16)]

    together = await embed(embedder, texts)
    alone = [(await embed(embedder, text))[0] for text in texts]
    at_once = await asyncio.gather(*(embed(embedder, text) for text in texts))

    assert together == alone == [vectors[0] for vectors in at_once]


async def test_usage_counts_every_input(embedder: Client) -> None:
    _, body = await embedder.post(EMBEDDINGS, {"input": ["hello", "hello world"]})

    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


async def test_an_input_of_the_whole_window_is_not_cut(embedder: Client) -> None:
    whole, shorter = await embed(embedder, ["word " * 510, "word " * 509 + "ship"])

    assert whole != shorter


@pytest.mark.parametrize("words", [511, 5000])
async def test_an_input_over_the_window_is_refused(embedder: Client, words: int) -> None:
    status, body = await embedder.post(EMBEDDINGS, {"input": ["fine", "word " * words]})

    assert (status, body["error"]["type"]) == (400, "exceed_context_size_error")
    assert (body["error"]["n_prompt_tokens"], body["error"]["n_ctx"]) == (words + 2, 512)


async def test_the_wrong_kind_of_model_says_so(chat: Client) -> None:
    status, body = await chat.post(EMBEDDINGS, {"input": "hello"})

    assert (status, body["error"]["type"]) == (501, "not_supported_error")


# The process


def listening_tcp() -> set[str]:
    """Return the inodes of all listening TCP sockets of this machine."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {line.split()[9] for line in lines if line.split()[3] == "0A"}


def test_nothing_listens_on_tcp(chat_gguf: Path) -> None:
    before = listening_tcp()
    with running(chat_gguf, "--context-window", "256") as worker:
        try:
            seen = {str(found.laddr) for found in psutil.Process(worker.process.pid).net_connections("inet")}
        except psutil.AccessDenied:  # it lets only root look into it
            seen = listening_tcp() - before

    assert seen == set()


def test_only_its_owner_may_connect(chat_worker: Worker) -> None:
    assert stat.S_IMODE(chat_worker.socket.stat().st_mode) & 0o077 == 0


def test_it_writes_warnings_only(chat_worker: Worker, embedding_worker: Worker) -> None:
    lines = (chat_worker.noise + embedding_worker.noise).splitlines()

    assert all(line.split()[1] in ("W", "E") for line in lines if line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_while_it_writes(chat_gguf: Path, number: int) -> None:
    with running(chat_gguf) as worker:
        async with client_of(worker) as client:
            stream = client.stream(CHAT, ask("Tell a story.", max_tokens=8000, ignore_eos=True))
            await anext(stream)
            worker.process.send_signal(number)

            code = await asyncio.to_thread(worker.process.wait, 2)
            await stream.aclose()

        assert code == 0
        assert not list(worker.socket.parent.glob("*.sock"))


def wait_for(socket: Path) -> None:
    """Wait until a worker listens, which is before it loads its model."""
    until = time.monotonic() + 20
    while not socket.exists():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_signal_ends_it_while_it_loads(chat_gguf: Path) -> None:
    with TemporaryDirectory() as directory:
        socket = Path(directory) / "m.sock"
        with subprocess.Popen(command(chat_gguf, socket, "--slots", "16"), stdout=subprocess.DEVNULL) as process:
            wait_for(socket)
            process.terminate()

            assert process.wait(2) in (0, -signal.SIGTERM)


def test_a_stale_socket_is_no_obstacle(chat_gguf: Path) -> None:
    with TemporaryDirectory() as directory:
        socket = Path(directory) / "m.sock"
        killed = start(chat_gguf, socket, "--context-window", "256")
        killed.process.kill()
        assert stop(killed) == -signal.SIGKILL
        assert socket.exists()

        assert stop(start(chat_gguf, socket, "--context-window", "256")) == 0


def test_it_ends_when_its_standard_input_closes(chat_gguf: Path) -> None:
    with running(chat_gguf, "--context-window", "256", stdin=subprocess.PIPE) as worker:
        assert worker.process.stdin is not None
        worker.process.stdin.close()

        assert worker.process.wait(2) == 0
        assert not list(worker.socket.parent.glob("*.sock"))


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_it_dies_with_its_parent_even_while_it_loads(chat_gguf: Path) -> None:
    with TemporaryDirectory() as directory:
        socket = Path(directory) / "m.sock"
        argv = command(chat_gguf, socket, "--slots", "16")
        with subprocess.Popen([sys.executable, "-c", PARENT, *argv], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            worker = psutil.Process(int(parent.stdout.readline()))
            wait_for(socket)

            parent.kill()

            gone, _ = psutil.wait_procs([worker], timeout=2)
            assert gone or worker.status() == psutil.STATUS_ZOMBIE
