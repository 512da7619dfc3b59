"""Models that rank: whether one can, and that it does nothing else.

llama.cpp gives the first number of a vector for a score where a model has no head for it, and a vector of zeros where
it has one.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.gguf_header import LARGEST_HEADER_BYTES
from gateway.worker.reports import EXIT_BAD_MODEL, Failure
from gateway.worker.told import refuse

RERANK = "/v1/rerank"
_HEADS = ("cls.weight", "cls.output.weight")


def check_ranking_head(model: Path) -> None:
    """Raise Failure unless the file at `model`, whose header was checked, has what makes scores of a vector.

    The names of its tensors are looked for in the header's bytes, each behind its length.
    """
    with model.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = min(len(content), LARGEST_HEADER_BYTES)
        for name in _HEADS:
            if content.find(struct.pack("<Q", len(name)) + name.encode(), 0, end) >= 0:
                return
    raise Failure(f"{model.name}: the model is no reranker", EXIT_BAD_MODEL, matter="it is no reranker")


class Ranker:
    """Asks `model` to rank, and nothing else."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    async def ask(self, path: str, body: Body) -> Answer:
        if path == RERANK:
            return await self._model.ask(path, body)
        wanted = "embeddings" if path == "/v1/embeddings" else "completions"
        return refuse(501, 501, "not_supported_error", f"This server does not support {wanted}. It ranks.")

    async def close(self) -> None:
        await self._model.close()
