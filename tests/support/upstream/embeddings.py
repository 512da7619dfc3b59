"""Embeddings as an upstream gives them: a vector follows from its input alone, so that tests can foretell it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .answer import Answer
from .bodies import encode, make_error
from .seen import SeenRequest

DIMENSIONS = 8

Input = str | list[int]
Items = list[dict[str, Any]]


def make_vector(item: Input, size: int = DIMENSIONS) -> list[float]:
    """Return the unit vector of one input: float32 values from the hash of the text or the token ids."""
    seed = hashlib.sha256(json.dumps(item).encode()).digest()
    source = random.Random(seed)
    values = [source.uniform(-1, 1) for _ in range(size)]
    norm = sum(value * value for value in values) ** 0.5
    return list(struct.unpack(f"<{size}f", struct.pack(f"<{size}f", *(value / norm for value in values))))


def encode_vector(vector: list[float]) -> str:
    """Return the base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def split_input(given: Any) -> list[Input]:
    """Return the inputs of one request: a text, a list of token ids, or a list of either."""
    alone = isinstance(given, str) or (isinstance(given, list) and bool(given) and isinstance(given[0], int))
    return [given] if alone else list(given or [])


@dataclass(frozen=True)
class Embeddings:
    """Correct embeddings in the asked encoding and size, in the order of the input.

    `spoil` takes the list of `data` and gives back a wrong one; some are below. `force` ignores the asked encoding.
    """

    size: int = DIMENSIONS
    spoil: Callable[[Items], Items] | None = None
    force: str | None = None
    usage: Any = "counted"

    def answer(self, request: SeenRequest) -> Answer:
        json_type = (("Content-Type", "application/json"),)
        fields = request.fields
        inputs = split_input(fields.get("input"))
        if not inputs:
            problem = make_error(400, "'input' is missing.", param="input")
            return Answer(400, json_type, (encode(problem),))
        form = self.force or fields.get("encoding_format") or "float"
        size = fields.get("dimensions") or self.size
        items: Items = []
        for index, item in enumerate(inputs):
            vector = make_vector(item, size)
            embedding = encode_vector(vector) if form == "base64" else vector
            items.append({"object": "embedding", "index": index, "embedding": embedding})
        tokens = sum(len(item.split()) if isinstance(item, str) else len(item) for item in inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens} if self.usage == "counted" else self.usage
        body = {
            "object": "list",
            "data": self.spoil(items) if self.spoil else items,
            "model": request.model,
            **({} if usage is None else {"usage": usage}),
        }
        return Answer(200, json_type, (encode(body),))


def drop_last(items: Items) -> Items:
    return items[:-1]


def add_one(items: Items) -> Items:
    return [*items, {**items[-1], "index": len(items)}]


def drop_all(_: Items) -> Items:
    return []


def reverse_order(items: Items) -> Items:
    """Return the right items with their right `index`, but the last one first."""
    return items[::-1]


def repeat_index(items: Items) -> Items:
    return [{**item, "index": 0} for item in items]


def shorten_last(items: Items) -> Items:
    """Return the last vector one value short (of the float form)."""
    return [*items[:-1], {**items[-1], "embedding": items[-1]["embedding"][:-1]}]


def put_nan(items: Items) -> Items:
    """Return the last vector with NaN, which json writes as the bare word."""
    return [*items[:-1], {**items[-1], "embedding": [float("nan"), *items[-1]["embedding"][1:]]}]


def put_infinity(items: Items) -> Items:
    return [*items[:-1], {**items[-1], "embedding": [float("inf"), *items[-1]["embedding"][1:]]}]


def put_text(items: Items) -> Items:
    return [*items[:-1], {**items[-1], "embedding": ["a", *items[-1]["embedding"][1:]]}]


def drop_index(items: Items) -> Items:
    """Return the right items without saying which is which."""
    return [{key: item[key] for key in item if key != "index"} for item in items]


def put_truth(items: Items) -> Items:
    """Return the last vector with `true` in it, which Python takes for a number."""
    return [*items[:-1], {**items[-1], "embedding": [True, *items[-1]["embedding"][1:]]}]


def empty_all(items: Items) -> Items:
    return [{**item, "embedding": []} for item in items]


def put_null(items: Items) -> Items:
    return [*items[:-1], {**items[-1], "embedding": None}]


def put_word(items: Items) -> Items:
    """Return a sentence for the last vector."""
    return [*items[:-1], {**items[-1], "embedding": "no vector at all"}]


def cut_base64(items: Items) -> Items:
    """Return the last vector (of the base64 form) cut in the middle of a number."""
    return [*items[:-1], {**items[-1], "embedding": items[-1]["embedding"][:-4]}]


def put_nan_in_base64(items: Items) -> Items:
    return [*items[:-1], {**items[-1], "embedding": encode_vector([float("nan")] * DIMENSIONS)}]
