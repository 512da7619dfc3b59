"""One vector for a text that was embedded in parts.

Works on float32, little-endian, as vectors are everywhere in the gateway. How a text is taken apart is decided in `tokens/`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Upstreams that give unit vectors round them to float32, some to float16; others are nowhere near.
UNIT_TOLERANCE = 1e-3


def pool(vectors: Sequence[bytes], weights: Sequence[int]) -> bytes:
    """Return the mean of finite vectors of one size, each counted `weights` times; float32, little-endian.

    It has unit length where every part has, within UNIT_TOLERANCE, and the mean is not zero. One vector is returned as
    it is. Raises ValueError for vectors of several sizes, none at all, and weights below 1.
    """
    if len(vectors) != len(weights) or not vectors or min(weights) < 1 or len(set(map(len, vectors))) != 1:
        raise ValueError("expected vectors of one size, each with a weight of at least 1")
    if len(vectors) == 1:
        return vectors[0]
    import numpy as np

    parts = [np.frombuffer(vector, dtype="<f4").astype(np.float64) for vector in vectors]
    # Part by part, and lengths by fsum: the bits must not depend on how a library orders a sum.
    total = np.zeros_like(parts[0])
    for part, weight in zip(parts, weights, strict=True):
        total += part * weight
    mean = total / sum(weights)
    if all(abs(_length(part.tolist()) - 1.0) <= UNIT_TOLERANCE for part in parts):
        length = _length(mean.tolist())
        mean = mean / length if length else mean
    packed: bytes = mean.astype("<f4").tobytes()
    return packed


def _length(numbers: list[float]) -> float:
    return math.sqrt(math.fsum(number * number for number in numbers))
