"""The numbers and words of a request that say how its answer is drawn, each checked for type and range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gateway.worker.batching.refusals import Refusal, unsupported
from gateway.worker.batching.work import Sampling

LARGEST_SEED = (1 << 32) - 1
LONGEST_LOOK_BACK = 8192
MOST_STOPS = 64
LONGEST_STOP = 1000
MOST_RATED = 20
NEVER = -math.inf

# field of a request: (field of Sampling, least, most, is an integer)
_NUMBERS: dict[str, tuple[str, float, float, bool]] = {
    "temperature": ("temperature", 0, 100, False),
    "top_k": ("top_k", -1, 1_000_000, True),
    "top_p": ("top_p", 0, 1, False),
    "min_p": ("min_p", 0, 1, False),
    "typical_p": ("typical_p", 0, 1, False),
    "presence_penalty": ("presence", -10, 10, False),
    "frequency_penalty": ("frequency", -10, 10, False),
    "repeat_penalty": ("repeat", 0, 10, False),
    "repetition_penalty": ("repeat", 0, 10, False),
    "repeat_last_n": ("last_n", -1, LONGEST_LOOK_BACK, True),
    "dynatemp_range": ("dynatemp_range", 0, 10, False),
    "dynatemp_exponent": ("dynatemp_exponent", 0, 10, False),
    "xtc_probability": ("xtc_probability", 0, 1, False),
    "xtc_threshold": ("xtc_threshold", 0, 1, False),
    "mirostat": ("mirostat", 0, 2, True),
    "mirostat_tau": ("mirostat_tau", 0, 100, False),
    "mirostat_eta": ("mirostat_eta", 0, 10, False),
}
_REFUSED = (
    "chat_template", "chat_template_kwargs", "id_slot", "lora", "min_keep", "n_discard", "n_keep", "n_predict", "n_probs",
    "samplers", "t_max_predict_ms", "t_max_prompt_ms", "dry_multiplier", "functions", "function_call", "audio",
    "prediction", "logit_bias_words", "top_n_sigma",
)  # fmt: skip
_HARMLESS = {"dry_multiplier": 0, "functions": [], "prediction": None, "n_keep": 0}


def refuse_foreign(body: Mapping[str, Any]) -> None:
    """Raise Refusal for fields that this engine would have to leave out."""
    for name in _REFUSED:
        if body.get(name) is not None and body[name] != _HARMLESS.get(name, ...):
            raise unsupported(name)
    for name in body:
        if name.startswith("speculative."):
            raise unsupported(name)
    if (body.get("best_of") or 1) != 1:
        raise unsupported("best_of")
    modalities = body.get("modalities")
    if modalities not in (None, ["text"]):
        raise unsupported("modalities")


def number(body: Mapping[str, Any], name: str, least: float, most: float, *, whole: bool) -> Any:
    """Return the number `name`, None when it is not given; raises Refusal."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in ((int,) if whole else (int, float)) or not least <= value <= most:
        kind = "an integer" if whole else "a number"
        raise Refusal(f"Field '{name}': must be {kind} from {least:g} to {most:g}", param=name)
    return value


def sampling_of(body: Mapping[str, Any], vocabulary_size: int, ends: tuple[int, ...], drawn: int) -> Sampling:
    """Return how to draw; `drawn` is the seed when none or -1 is asked for, `ends` are the tokens that end an answer."""
    chosen: dict[str, Any] = {}
    for name, (field, least, most, whole) in _NUMBERS.items():
        value = number(body, name, least, most, whole=whole)
        if value is not None:
            chosen[field] = value
    seed = number(body, "seed", -(1 << 63), (1 << 64) - 1, whole=True)
    bias = bias_of(body.get("logit_bias"), vocabulary_size)
    if flag(body, "ignore_eos"):
        bias |= dict.fromkeys(ends, NEVER)
    seed = drawn if seed is None or seed == -1 else seed
    return dataclasses.replace(Sampling(seed & LARGEST_SEED), **chosen, logit_bias=bias)


def bias_of(given: Any, vocabulary_size: int) -> dict[int, float]:
    """Return the bias of each token of `logit_bias`; raises Refusal."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise Refusal("Field 'logit_bias': must be an object of token ids", param="logit_bias")
    bias: dict[int, float] = {}
    for key, value in given.items():
        if not key.isdecimal() or len(key) > 9 or int(key) >= vocabulary_size:
            raise Refusal(f"Field 'logit_bias': {key[:20]!r} is no token id of this model", param="logit_bias")
        if value is not False and (type(value) not in (int, float) or not -100 <= value <= 100):
            raise Refusal("Field 'logit_bias': a bias must be a number from -100 to 100", param="logit_bias")
        bias[int(key)] = NEVER if value is False else float(value)
    return bias


def flag(body: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """Return the truth value `name`; raises Refusal."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refusal(f"Field '{name}': must be true or false", param=name)
    return value


def limit_of(body: Mapping[str, Any]) -> int | None:
    """Return how many tokens may be written at most, None for as many as there is room for; raises Refusal."""
    limits = [number(body, name, -1, 1 << 31, whole=True) for name in ("max_completion_tokens", "max_tokens")]
    limit = next((limit for limit in limits if limit is not None), -1)
    if limit == 0:
        raise Refusal("Field 'max_tokens': must be at least 1", param="max_tokens")
    return None if limit < 0 else limit


def stops_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts that end the answer; raises Refusal."""
    given = body.get("stop")
    stops = [] if given is None else [given] if isinstance(given, str) else given
    is_right = isinstance(stops, list) and len(stops) <= MOST_STOPS
    if not is_right or not all(isinstance(stop, str) and len(stop) <= LONGEST_STOP for stop in stops):
        raise Refusal(
            f"Field 'stop': must be text or at most {MOST_STOPS} texts of at most {LONGEST_STOP} characters",
            param="stop",
        )
    return tuple(stop for stop in stops if stop)


def rated_of(body: Mapping[str, Any]) -> int | None:
    """Return how many rivals each token is told with, None when none are asked for; raises Refusal."""
    asked = body.get("logprobs")
    if asked is None or asked is False:
        if body.get("top_logprobs"):
            raise Refusal("top_logprobs requires logprobs to be set to true", param="top_logprobs")
        return None
    if asked is True:
        return number(body, "top_logprobs", 0, MOST_RATED, whole=True) or 0
    return int(number(body, "logprobs", 0, MOST_RATED, whole=True))
