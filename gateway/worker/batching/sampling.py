"""The choice of the next token for one sequence, and the ratings of its rivals.

Every native sampler belongs to one sequence and is freed with it. A grammar looks at the drawn token first and at all
candidates only when that one does not fit: looking at all of them for each token costs more than half of the speed.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gateway.worker.batching.native import Native, Vocabulary
from gateway.worker.batching.work import Rated, Rating, Sampling

REFUSED = -1e30  # a grammar sets the logits of what it forbids to minus infinity
LIKELY = 256


class GrammarError(ValueError):
    """A grammar that llama.cpp cannot parse."""


class Sampler:
    """Draws the tokens of one sequence; `close` frees it. Raises GrammarError."""

    def __init__(self, native: Native, sampling: Sampling, grammar: str | None) -> None:
        self._native = native
        self._binding = native.binding
        self._sampling = sampling
        self._grammar = make_grammar(native.binding, native.vocabulary, grammar) if grammar is not None else None
        is_plain = sampling.temperature <= 0 and not (sampling.is_penalised or sampling.logit_bias)
        self._chain = None if is_plain else make_chain(native, sampling)

    def see_prompt(self, tokens: Sequence[int]) -> None:
        """Let penalties know the end of the prompt, as llama.cpp's server does."""
        if self._chain is not None and self._sampling.is_penalised:
            last = self._sampling.last_n
            for token in tokens[-last:] if last > 0 else tokens if last < 0 else ():
                self._binding.llama_sampler_accept(self._chain, token)

    def draw(self, place: int) -> int | None:
        """Return the next token after the batch's row `place`, None when the grammar permits no token."""
        if self._grammar is None:
            if self._chain is None:
                return int(self._native.logits(place).argmax())
            return int(self._binding.llama_sampler_sample(self._chain, self._native.context, place))
        token = self._draw_and_check(place)
        if token is not None:
            self._binding.llama_sampler_accept(self._grammar, token)
            if self._chain is not None:
                self._binding.llama_sampler_accept(self._chain, token)
        return token

    def _draw_and_check(self, place: int) -> int | None:
        logits = self._native.logits(place)
        token = self._choose(_candidates(logits, None))
        if self._permits(token):
            return token
        likely = min(LIKELY, len(logits) - 1)
        ranks = self._ranks(logits)
        for count in (likely, None):
            candidates = self._filter(_candidates(logits, count, ranks))
            if len(candidates):
                return self._choose(candidates)
        return None

    def _ranks(self, logits: Any) -> Any:
        """Return the logits with their bias: a token that must not be drawn must not be the only one that is looked at."""
        if not self._sampling.logit_bias:
            return logits
        ranks = logits.copy()
        for token, bias in self._sampling.logit_bias.items():
            ranks[token] += bias
        return ranks

    def _choose(self, candidates: Any) -> int:
        if self._chain is None:
            return int(candidates["id"][candidates["logit"].argmax()])
        array = self._array(candidates)
        self._binding.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[max(array.selected, 0)].id)

    def _permits(self, token: int) -> bool:
        one = (self._binding.llama_token_data * 1)(self._binding.llama_token_data(token, 1.0, 0.0))
        array = self._binding.llama_token_data_array(one, 1, -1, sorted=False)
        self._binding.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return bool(one[0].logit > REFUSED)

    def _filter(self, candidates: Any) -> Any:
        import numpy as np

        self._binding.llama_sampler_apply(self._grammar, ctypes.byref(self._array(candidates)))
        return np.ascontiguousarray(candidates[candidates["logit"] > REFUSED])

    def _array(self, candidates: Any) -> Any:
        pointer = candidates.ctypes.data_as(ctypes.POINTER(self._binding.llama_token_data))
        return self._binding.llama_token_data_array(pointer, len(candidates), -1, sorted=False)

    def close(self) -> None:
        for sampler in (self._grammar, self._chain):
            if sampler is not None:
                self._binding.llama_sampler_free(sampler)


def make_grammar(binding: Any, vocabulary: Vocabulary, grammar: str) -> Any:
    """Return a native grammar; raises GrammarError where llama.cpp gives NULL, which would crash it later."""
    made = binding.llama_sampler_init_grammar(vocabulary.handle, grammar.encode(), b"root")
    if not made:
        raise GrammarError("failed to parse grammar")
    return made


def check_grammar(binding: Any, vocabulary: Vocabulary, grammar: str) -> None:
    """Raise GrammarError unless llama.cpp can parse `grammar`; any thread may ask, one at a time."""
    with unheard():
        made = make_grammar(binding, vocabulary, grammar)
    binding.llama_sampler_free(made)


@contextmanager
def unheard() -> Iterator[None]:
    """Drop what native code writes to standard error: llama.cpp repeats a bad grammar, which may be a caller's secret."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def make_chain(native: Native, sampling: Sampling) -> Any:
    """Return llama.cpp's samplers in the order of its server."""
    binding = native.binding
    chain = binding.llama_sampler_chain_init(binding.llama_sampler_chain_default_params())
    for sampler in _samplers(native, sampling):
        binding.llama_sampler_chain_add(chain, sampler)
    return chain


def _samplers(native: Native, sampling: Sampling) -> Iterable[Any]:
    binding, size = native.binding, native.vocabulary.size
    if sampling.logit_bias:
        pairs = [binding.llama_logit_bias(token, bias) for token, bias in sampling.logit_bias.items()]
        yield binding.llama_sampler_init_logit_bias(size, len(pairs), (binding.llama_logit_bias * len(pairs))(*pairs))
    if sampling.is_penalised:
        last = binding.llama_n_ctx(native.context) if sampling.last_n < 0 else sampling.last_n
        yield binding.llama_sampler_init_penalties(size, last, sampling.repeat, sampling.frequency, sampling.presence)
    if sampling.temperature <= 0:
        yield binding.llama_sampler_init_greedy()
    elif sampling.mirostat:
        yield binding.llama_sampler_init_temp(sampling.temperature)
        yield _mirostat(binding, size, sampling)
    else:
        yield from _narrowing(binding, sampling)


def _narrowing(binding: Any, sampling: Sampling) -> Iterable[Any]:
    if sampling.top_k > 0:
        yield binding.llama_sampler_init_top_k(sampling.top_k)
    if sampling.typical_p < 1:
        yield binding.llama_sampler_init_typical(sampling.typical_p, 1)
    if sampling.top_p < 1:
        yield binding.llama_sampler_init_top_p(sampling.top_p, 1)
    if sampling.min_p > 0:
        yield binding.llama_sampler_init_min_p(sampling.min_p, 1)
    if sampling.xtc_probability > 0:
        yield binding.llama_sampler_init_xtc(sampling.xtc_probability, sampling.xtc_threshold, 1, sampling.seed)
    yield binding.llama_sampler_init_temp_ext(sampling.temperature, sampling.dynatemp_range, sampling.dynatemp_exponent)
    yield binding.llama_sampler_init_dist(sampling.seed)


def _mirostat(binding: Any, size: int, sampling: Sampling) -> Any:
    if sampling.mirostat == 1:
        return binding.llama_sampler_init_mirostat(
            size, sampling.seed, sampling.mirostat_tau, sampling.mirostat_eta, 100
        )
    return binding.llama_sampler_init_mirostat_v2(sampling.seed, sampling.mirostat_tau, sampling.mirostat_eta)


def rate(logits: Any, token: int, count: int, vocabulary: Vocabulary) -> Rating:
    """Return how likely `token` was among the `logits`, and its `count` likeliest rivals."""
    import numpy as np

    highest = float(logits.max())
    total = highest + math.log(float(np.exp(logits - highest).sum(dtype=np.float64)))
    best = np.argpartition(-logits, count)[:count] if count else np.empty(0, dtype=np.int64)
    best = best[np.argsort(-logits[best], kind="stable")]

    def rated(one: int) -> Rated:
        return Rated(one, vocabulary.piece(one, special=True), float(logits[one]) - total)

    return Rating(rated(token), tuple(rated(int(one)) for one in best))


def _candidates(logits: Any, count: int | None, ranks: Any = None) -> Any:
    """Return the `count` likeliest candidates by `ranks`, or all, in llama.cpp's layout of llama_token_data."""
    import numpy as np

    ids = np.arange(len(logits)) if count is None else np.argpartition(-ranks, count)[:count]
    found = np.zeros(len(ids), dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    found["id"] = ids
    found["logit"] = logits[ids]
    return found
