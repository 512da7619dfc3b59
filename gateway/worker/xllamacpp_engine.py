"""The engine xllamacpp: llama.cpp's own server code, in this process, behind a Unix socket that the front asks.

Its parameters follow llama.cpp from build to build and an unknown name would be set without complaint on a Python object,
so each one is checked first. What must not live here: defaults that hold for any engine; those are in `plan.py`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from gateway.worker.confinement import claim_socket
from gateway.worker.engine import ConcreteName, LoadedModel, Plan
from gateway.worker.fill_in import FillIn
from gateway.worker.load_log import LoadLog
from gateway.worker.machine import why_cpu_lacks, why_library_missing, why_package_missing
from gateway.worker.plan import engine_socket
from gateway.worker.reports import EXIT_BAD_MODEL, EXIT_NO_ENGINE, Failure

CHAT_BATCH_TOKENS = 512  # a larger piece of one prompt would keep the other requests waiting for longer (design.md)
# A model that reads its input as a whole gets it in one batch, which therefore must never be the limit: an input over the
# window is then refused as that, not as "increase the physical batch size". Costs no memory, the window bounds the buffers.
EMBEDDING_BATCH_TOKENS = 65_536
PROMPT_CACHE_MIB = 64
CHECKPOINTS_PER_SLOT = 4
HTTP_THREADS_BESIDE_SLOTS = 8  # a request holds one until the server has noticed that its caller left
LOG_WARNINGS = 2


class XllamaCpp:
    """Serves a model with xllamacpp."""

    name: ConcreteName = "xllamacpp"

    def why_unavailable(self) -> str | None:
        return (
            why_package_missing("xllamacpp", "local")
            or why_cpu_lacks(("avx2", "fma", "bmi2"))
            or why_library_missing(("libgomp.so.1", "libstdc++.so.6"))
        )

    def start(self, plan: Plan) -> LoadedModel:
        from gateway.worker.engine_socket import EngineSocket, await_health  # brings in aiohttp
        from gateway.worker.form_check import FormCheck
        from gateway.worker.tool_check import ToolCheck

        try:
            binding = importlib.import_module("xllamacpp")
        except ImportError as error:
            raise Failure(f"xllamacpp cannot be imported: {error}", EXIT_NO_ENGINE) from error
        path = engine_socket(plan.socket)
        claim_socket(path)
        params = binding.CommonParams()
        _fill(params, plan, path, binding)
        with LoadLog(plan.socket) as log:
            try:
                server = binding.Server(params)
            except RuntimeError as error:
                raise Failure(f"{plan.model.name}: {log.reason() or error}", EXIT_BAD_MODEL) from error
        await_health(path)
        return FillIn(ToolCheck(FormCheck(EngineSocket(path, server))))


def _fill(params: Any, plan: Plan, path: Path, binding: Any) -> None:
    for owner, fields in _fields(params, plan, path, binding):
        for field, value in fields.items():
            if not hasattr(owner, field):
                raise Failure(f"this build of xllamacpp has no parameter {field}", EXIT_NO_ENGINE)
            setattr(owner, field, value)


def _fields(params: Any, plan: Plan, path: Path, binding: Any) -> list[tuple[Any, dict[str, Any]]]:
    reads_whole = plan.embedding or plan.rerank
    batch = EMBEDDING_BATCH_TOKENS if reads_whole else CHAT_BATCH_TOKENS
    shape = {
        # Each request has a window of its own; a shared one that runs full ends all requests at once.
        "n_ctx": plan.context_window * plan.slots,
        "n_parallel": plan.slots,
        "kv_unified": False,
        "n_batch": batch,
        "n_ubatch": batch,
        "embedding": reads_whole,
        "ctx_shift": False,
        "fit_params": False,
        "n_ctx_checkpoints": CHECKPOINTS_PER_SLOT,
        "cache_ram_mib": 0 if reads_whole else PROMPT_CACHE_MIB,
    }
    if plan.mean_pooling:
        shape["pooling_type"] = binding.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if plan.rerank:
        shape["pooling_type"] = binding.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    if plan.gpu_layers is not None:
        shape["n_gpu_layers"] = plan.gpu_layers
    service = {
        "hostnames": [str(path)],
        "model_alias": {plan.name},
        "n_threads_http": plan.slots + HTTP_THREADS_BESIDE_SLOTS,
        "ui": False,
        "endpoint_slots": False,
        "endpoint_props": False,
        "endpoint_metrics": False,
        "slot_save_path": "",
        "media_path": "",
        "cors_origins": "",
        "cors_origins_explicit": True,
        "offline": True,
        "verbosity": LOG_WARNINGS,
    }
    threads = {"n_threads": plan.threads}
    return [
        (params, shape | service),
        (params.model, {"path": str(plan.model)}),
        (params.cpuparams, threads),
        (params.cpuparams_batch, threads),
    ]
