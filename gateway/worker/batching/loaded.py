"""A loaded model as the front sees it: requests in, answers out, each path with what this model can do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gateway.wire import dump
from gateway.worker.batching.answers import Teller, embeddings_json
from gateway.worker.batching.delivery import Whole, deliver, dispatcher, refused
from gateway.worker.batching.native import Native
from gateway.worker.batching.refusals import Refusal
from gateway.worker.batching.requests import Desk, Job
from gateway.worker.batching.sampling import check_grammar
from gateway.worker.batching.scheduler import Scheduler
from gateway.worker.batching.template import ChatTemplate
from gateway.worker.engine import Answer, Body, Plan
from gateway.worker.reports import Failure

KEY_BITS = 128
READERS = 3  # a long text keeps one of them for seconds
TOKENIZE = "/tokenize"  # for what stands between the front and an engine


class Writer:
    """A model that writes. `draw(bits)` gives a random number, `kept` is what must live as long as the model."""

    def __init__(self, native: Native, plan: Plan, draw: Callable[[int], int], kept: object) -> None:
        self._native = native
        self._plan = plan
        self._draw = draw
        self._kept = kept
        self._loop: asyncio.AbstractEventLoop | None = None
        self._desk = make_desk(native, plan, draw)
        self._reader = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._scheduler = Scheduler(
            native, plan.slots, native.cells, clock=time.monotonic, post=dispatcher(lambda: self._loop)
        )

    async def ask(self, path: str, body: Body) -> Answer:
        self._loop = asyncio.get_running_loop()
        if path == TOKENIZE:
            return await take_apart(self._desk, body, self._reader)
        read = {"/v1/chat/completions": self._desk.read_chat, "/v1/completions": self._desk.read_completion}.get(path)
        if read is None:
            return refused(not_served(path))
        try:
            job: Job = await self._loop.run_in_executor(self._reader, read, body)
        except Refusal as refusal:
            return refused(refusal)
        key = f"{self._draw(KEY_BITS):032x}"
        teller = Teller(job.manner, len(job.sequences), model=self._plan.name, key=key, created=int(time.time()))
        return await deliver(self._scheduler, job.sequences, teller, stream=job.manner.stream)

    async def pulse(self) -> None:
        """Return when a request can be read and the scheduler has ended its step."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reader, int)
        heard = asyncio.Event()
        self._scheduler.ping(partial(loop.call_soon_threadsafe, heard.set))
        await heard.wait()

    async def close(self) -> None:
        await asyncio.to_thread(self._reader.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._scheduler.close)


class Embedder:
    """A model that gives vectors: one input at a time, so that a vector does not depend on its neighbours."""

    def __init__(self, native: Native, plan: Plan, draw: Callable[[int], int], kept: object) -> None:
        self._native = native
        self._plan = plan
        self._kept = kept
        self._desk = make_desk(native, plan, draw)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llama")

    async def ask(self, path: str, body: Body) -> Answer:
        if path == TOKENIZE:
            return await take_apart(self._desk, body, self._thread)
        if path != "/v1/embeddings":
            return refused(not_served(path))
        run = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        try:
            inputs = await run(self._desk.read_inputs, body)
            vectors = [await run(self._vector, tokens) for tokens in inputs]
        except Refusal as refusal:
            return refused(refusal)
        except Failure as failure:
            return refused(Refusal(str(failure), status=500, kind="server_error"))
        as_base64 = body.get("encoding_format") == "base64"
        count = sum(map(len, inputs))
        return Whole(embeddings_json(vectors, count, model=self._plan.name, as_base64=as_base64))

    def _vector(self, tokens: list[int]) -> Any:
        import numpy as np

        vector = self._native.embed(tokens)
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not np.isfinite(length):
            raise Failure("llama.cpp gave a vector that is no number")
        return (vector / length).astype(np.float32) if length else vector

    async def pulse(self) -> None:
        """Return when the thread has come to the end of what it is at."""
        await asyncio.get_running_loop().run_in_executor(self._thread, int)

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._native.close()


async def take_apart(desk: Desk, body: Body, thread: ThreadPoolExecutor) -> Answer:
    """Return the token ids of a text."""
    try:
        tokens = await asyncio.get_running_loop().run_in_executor(thread, desk.read_text, body)
    except Refusal as refusal:
        return refused(refusal)
    return Whole(dump({"tokens": tokens}))


def make_desk(native: Native, plan: Plan, draw: Callable[[int], int]) -> Desk:
    """Return what reads the requests of this model."""
    vocabulary = native.vocabulary
    return Desk(
        vocabulary=vocabulary,
        template=None if plan.embedding else _template(native),
        window=plan.context_window,
        slots=plan.slots,
        draw=partial(draw, 32),
        check_grammar=_one_at_a_time(partial(check_grammar, native.binding, vocabulary)),
    )


def _one_at_a_time(check: Callable[[str], None]) -> Callable[[str], None]:
    """Return `check` for several threads: it turns the standard error of the whole process off and on again."""
    lock = threading.Lock()

    def checked(grammar: str) -> None:
        with lock:
            check(grammar)

    return checked


def _template(native: Native) -> ChatTemplate | Refusal | None:
    source = native.template()
    if source is None:
        return None
    try:
        return ChatTemplate(source, _text_of(native, "bos"), _text_of(native, "eos"))
    except Refusal as refusal:  # the model still completes prompts; who chats with it is told
        return refusal


def _text_of(native: Native, name: str) -> str:
    token = native.vocabulary.special(name)
    return "" if token is None else native.vocabulary.piece(token, special=True).decode("utf-8", "replace")


def not_served(path: str) -> Refusal:
    """Return the refusal of a path that this model does not serve, as llama.cpp's server words it."""
    if path == "/v1/embeddings":
        message = "This server does not support embeddings. Start it with `--embeddings`"
    elif path == "/v1/rerank":
        message = "This server does not support reranking. Start it with `--reranking`"
    else:
        message = f"This server does not support {'chat' if path == '/v1/chat/completions' else 'completions'}"
    return Refusal(message, status=501, kind="not_supported_error")
