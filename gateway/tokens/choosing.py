"""Which encoding a hosted model's tokens are counted with, by the name of the model.

How tokens are counted is in `encodings.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.tokens.encodings import EncodingName

# How many more tokens than counted a model of another maker may see; cl100k_base is nearest to all of them (design.md).
FOREIGN_MARGIN = 0.4
# The maker's own vocabulary, but what the upstream puts around a text is not known.
MARKS_MARGIN = 0.01

_KNOWN: tuple[tuple[re.Pattern[str], EncodingName, float], ...] = (
    (re.compile(r"(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-oss|o[134])([-.:].*)?"), "o200k_base", 0.0),
    (re.compile(r"text-embedding-(3-small|3-large|ada-002)|gpt-(4|3\.5|35)(-.*)?"), "cl100k_base", 0.0),
    (re.compile(r"(meta-)?llama-?3([-.:].*)?"), "llama3", MARKS_MARGIN),
    (re.compile(r"qwen-?(2|2\.5|3)([-:].*)?"), "qwen3", MARKS_MARGIN),
    (re.compile(r"deepseek-(chat|reasoner|v3|r1)([-.:](?!.*distill).*)?"), "deepseek_v3", MARKS_MARGIN),
    (re.compile(r"(open-)?mistral-nemo([-:].*)?"), "mistral_v3", MARKS_MARGIN),
)


@dataclass(frozen=True, slots=True)
class Counting:
    """An encoding, and by which share of its count a model may see more tokens: 0 where it is the model's own."""

    encoding: EncodingName
    margin: float


def counting_of(model: str) -> Counting:
    """Return how the tokens of a hosted model are counted, by its upstream's name; makers' names may come before it."""
    name = model.rpartition("/")[2].lower()
    for pattern, encoding, margin in _KNOWN:
        if pattern.fullmatch(name):
            return Counting(encoding, margin)
    return Counting("cl100k_base", FOREIGN_MARGIN)
