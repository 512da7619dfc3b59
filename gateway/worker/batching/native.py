"""llama-cpp-python's low-level functions, as few and as safe as the scheduler needs them.

ctypes checks nothing: a wrong count or a NULL passed on ends the process, so every result is looked at here. `vocabulary`
calls may come from any thread; the context belongs to the one thread that decodes. What must not live here: decisions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.worker.engine import Plan
from gateway.worker.reports import EXIT_BAD_MODEL, Failure

CHAT_BATCH_TOKENS = 512  # a larger piece of one prompt would keep the other requests waiting for longer (design.md)
ALL_LAYERS = 2**31 - 1
LONGEST_PIECE = 1024
POOLING_UNSPECIFIED, POOLING_MEAN = -1, 1
LOG_WARN, LOG_ERROR = 3, 4


@dataclass(frozen=True, slots=True)
class Row:
    """One token of a batch: at `position` of the sequence `slot`; `wanted` if its logits are needed."""

    token: int
    position: int
    slot: int
    wanted: bool


class Vocabulary:
    """The words of a model."""

    def __init__(self, binding: Any, handle: Any) -> None:
        self.handle = handle
        self._binding = binding
        self.size: int = binding.llama_vocab_n_tokens(handle)
        self.adds_bos: bool = binding.llama_vocab_get_add_bos(handle)
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._ends: tuple[int, ...] | None = None
        self._longest = 0

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return the token ids of `text`; `parse_special` takes `<|name|>` for the token of that name."""
        raw = text.encode("utf-8", "replace")
        count = len(raw) + 8
        tokens = (self._binding.llama_token * count)()
        found = self._binding.llama_tokenize(self.handle, raw, len(raw), tokens, count, add_special, parse_special)
        if found < 0:
            raise ValueError(f"the text has {-found} tokens, more than bytes")
        return list(tokens[:found])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of a token, b"" of control tokens unless `special`."""
        known = self._pieces.get((token, special))
        if known is None:
            known = self._pieces[token, special] = self._piece(token, special=special)
        return known

    def _piece(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(LONGEST_PIECE)
        size = self._binding.llama_token_to_piece(self.handle, token, buffer, LONGEST_PIECE, 0, special)
        return buffer.raw[: max(size, 0)]

    def longest(self) -> int:
        """Return how many bytes the longest token has."""
        if not self._longest:
            self._longest = max(len(self._piece(token, special=True)) for token in range(self.size))
        return self._longest

    def is_end(self, token: int) -> bool:
        return bool(self._binding.llama_vocab_is_eog(self.handle, token))

    def ends(self) -> tuple[int, ...]:
        """Return every token that ends an answer."""
        if self._ends is None:
            self._ends = tuple(token for token in range(self.size) if self.is_end(token))
        return self._ends

    def special(self, name: str) -> int | None:
        """Return the token `name` (bos, eos, sep, fim_pre, fim_suf, fim_mid), None where the model has none."""
        token = getattr(self._binding, f"llama_vocab_{name}")(self.handle)
        return int(token) if 0 <= token < self.size else None


class Native:
    """A loaded model with one context."""

    def __init__(self, binding: Any, plan: Plan) -> None:
        self.binding = binding
        binding.llama_backend_init()
        self.batch_size = _window(plan) if plan.embedding else CHAT_BATCH_TOKENS
        params = binding.llama_model_default_params()
        params.n_gpu_layers = ALL_LAYERS if plan.gpu_layers is None else plan.gpu_layers
        self.model = binding.llama_model_load_from_file(str(plan.model).encode(), params)
        if not self.model:
            raise Failure(f"{plan.model.name}: llama.cpp cannot load it", EXIT_BAD_MODEL)
        self.context = binding.llama_init_from_model(self.model, self._context_params(plan))
        if not self.context:
            raise Failure(f"{plan.model.name}: there is not enough memory for its context")
        self.vocabulary = Vocabulary(binding, binding.llama_model_get_vocab(self.model))
        self._memory = binding.llama_get_memory(self.context)
        self.swa: int = binding.llama_model_n_swa(self.model)
        self.keeps_parts = not (
            binding.llama_model_is_recurrent(self.model) or binding.llama_model_is_hybrid(self.model)
        )
        self.cells: int = binding.llama_n_ctx(self.context)
        self.pooling: int = binding.llama_pooling_type(self.context)
        self._batch = binding.llama_batch_init(self.batch_size, 0, 1)

    def _context_params(self, plan: Plan) -> Any:
        params = self.binding.llama_context_default_params()
        places = 1 if plan.embedding else plan.slots  # inputs are embedded one after the other
        params.n_ctx = _window(plan) * places
        params.n_batch = params.n_ubatch = self.batch_size
        params.n_seq_max = places
        params.n_threads = params.n_threads_batch = plan.threads
        # One store that all sequences share lets a prompt be shared too; it has room for all of them.
        params.kv_unified = True
        params.swa_full = True
        params.no_perf = True
        params.embeddings = plan.embedding
        params.pooling_type = POOLING_MEAN if plan.mean_pooling else POOLING_UNSPECIFIED
        return params

    def template(self) -> str | None:
        """Return the chat template inside the model."""
        raw = self.binding.llama_model_chat_template(self.model, None)
        return raw.decode("utf-8", "replace") if raw else None

    def decode(self, rows: Sequence[Row]) -> int:
        """Compute one batch; 0 when all went well, 1 when there was no room."""
        self._fill(rows)
        return int(self.binding.llama_decode(self.context, self._batch))

    def _fill(self, rows: Sequence[Row]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for place, row in enumerate(rows):
            batch.token[place] = row.token
            batch.pos[place] = row.position
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = row.slot
            batch.logits[place] = row.wanted

    def logits(self, place: int) -> Any:
        """Return the logits of the batch's row `place` as a numpy array that is valid until the next decode."""
        import numpy as np

        found = self.binding.llama_get_logits_ith(self.context, place)
        return np.ctypeslib.as_array(found, (self.vocabulary.size,))

    def embed(self, tokens: Sequence[int]) -> Any:
        """Return the pooled vector of `tokens` as a numpy array, not normalised; raises Failure."""
        import numpy as np

        self.forget(0)
        self._fill([Row(token, place, 0, wanted=True) for place, token in enumerate(tokens)])
        only_encodes = self.binding.llama_model_has_encoder(self.model) and not self._memory
        run = self.binding.llama_encode if only_encodes else self.binding.llama_decode
        if run(self.context, self._batch) != 0:
            raise Failure("llama.cpp could not compute the input")
        found = self.binding.llama_get_embeddings_seq(self.context, 0)
        if not found:
            raise Failure("llama.cpp gave no vector")
        return np.ctypeslib.as_array(found, (self.binding.llama_model_n_embd(self.model),)).copy()

    def forget(self, slot: int, since: int = -1) -> bool:
        """Drop what is kept of a sequence from position `since` on; False when the model cannot keep a part."""
        if not self._memory:
            return True
        return bool(self.binding.llama_memory_seq_rm(self._memory, slot, since, -1))

    def share(self, source: int, target: int, count: int) -> None:
        """Give `target` the first `count` positions of `source`."""
        self.binding.llama_memory_seq_cp(self._memory, source, target, 0, count)

    def first_position(self, slot: int) -> int:
        return int(self.binding.llama_memory_seq_pos_min(self._memory, slot))

    def close(self) -> None:
        self.binding.llama_batch_free(self._batch)
        self.binding.llama_free(self.context)
        self.binding.llama_model_free(self.model)


def quiet(binding: Any, write: Any) -> Any:
    """Pass warnings and errors of llama.cpp to `write(text)` as lines; return what must be kept for as long."""

    @binding.llama_log_callback  # type: ignore[untyped-decorator]
    def listen(level: int, text: bytes, _: object) -> None:
        if level in (LOG_WARN, LOG_ERROR):
            write(f"llama.cpp {'W' if level == LOG_WARN else 'E'} {text.decode('utf-8', 'replace').rstrip()}\n")

    binding.llama_log_set(listen, ctypes.c_void_p(0))
    return listen


def _window(plan: Plan) -> int:
    return -(-plan.context_window // 256) * 256  # llama.cpp rounds up as well
