"""What the scheduler is given and what it tells: one sequence of tokens to go on with, and the events of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

EndReason = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; the defaults are those of llama.cpp's server.

    `logit_bias` is added to the logits of token ids. `last_n` is how many tokens penalties look back, -1 for all.
    """

    seed: int
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    repeat: float = 1.0
    last_n: int = 64
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_penalised(self) -> bool:
        return bool(self.presence or self.frequency or self.repeat != 1.0)


@dataclass(frozen=True, slots=True)
class Rated:
    """A token and its logarithmic probability."""

    token: int
    text: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Rating:
    """The chosen token and its likeliest rivals, best first."""

    chosen: Rated
    rivals: tuple[Rated, ...]


@dataclass(frozen=True, slots=True)
class Timings:
    """Counts in tokens, times in seconds; `cached` tokens of the prompt were not computed again.

    `found` of them were there before the request: what sequences with one prompt share is computed once, and counted.
    """

    prompt: int
    cached: int
    produced: int
    prompt_seconds: float
    produced_seconds: float
    found: int


@dataclass(frozen=True, slots=True)
class Piece:
    """More of an answer; `text` may be empty while a character or a stop string is incomplete."""

    text: str
    rating: Rating | None
    timings: Timings


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an answer; `text` is what was still held back."""

    reason: EndReason
    text: str
    timings: Timings


Event = Piece | Ending


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer to write: `tokens` is the prompt and `limit` how many tokens may follow.

    `sink` gets the events, in the loop's thread. `rated` is how many rivals each token is told with, None for no ratings
    at all. `leader` is another sequence with the same prompt, whose work is waited for and shared. Setting `cancelled`
    ends the work within a step. `found` is set to how many tokens of the prompt were there before.
    """

    tokens: list[int]
    limit: int
    sampling: Sampling
    sink: Callable[[Event], None]
    stops: tuple[str, ...] = ()
    grammar: str | None = None
    rated: int | None = None
    reuse: bool = True
    leader: Sequence | None = None
    cancelled: bool = False
    prefilled: bool = False
    found: int = 0
