"""The engine llama-cpp-python: llama.cpp's functions called by our own scheduler, in one thread of this process.

The binding is built on the machine it runs on (`gateway engine build`), so it asks for no processor features. Its functions
drift with every release and ctypes checks nothing: the tested version is pinned, any other is refused.
"""

from __future__ import annotations

import importlib
import sys

from gateway.worker.engine import ConcreteName, LoadedModel, Plan
from gateway.worker.load_log import LoadLog
from gateway.worker.machine import why_library_missing, why_package_missing
from gateway.worker.reports import EXIT_NO_ENGINE, Failure

VERSION = "0.3.36"


class LlamaCppPython:
    """Serves a model with llama-cpp-python."""

    name: ConcreteName = "llama-cpp-python"

    def why_unavailable(self) -> str | None:
        for package in ("llama_cpp", "numpy", "jinja2"):
            reason = why_package_missing(package, "llama-cpp-python")
            if reason is not None:
                return f"{reason.removesuffix(')')}; `gateway engine build` builds it faster)"
        from importlib.metadata import version  # every process of the gateway imports this file

        found = version("llama-cpp-python")
        if found != VERSION:
            return f"llama-cpp-python is {found}, and {VERSION} is needed (`gateway engine build`)"
        return why_library_missing(("libgomp.so.1", "libstdc++.so.6"))

    def start(self, plan: Plan) -> LoadedModel:
        if plan.rerank:
            raise Failure("llama-cpp-python does not serve /v1/rerank here; use xllamacpp", EXIT_NO_ENGINE)
        try:
            binding = importlib.import_module("llama_cpp")
        except (ImportError, OSError, RuntimeError) as error:
            raise Failure(f"llama-cpp-python cannot be imported: {error}", EXIT_NO_ENGINE) from error
        import secrets

        from gateway.worker.batching.loaded import Embedder, Writer  # brings in jinja2
        from gateway.worker.batching.native import Native, quiet

        listener = quiet(binding, _write)
        with LoadLog(plan.socket) as log:
            try:
                native = Native(binding, plan)
            except Failure as failure:
                reason = f"{plan.model.name}: {log.reason()}" if log.reason() else str(failure)
                raise Failure(reason, failure.exit_code, matter=failure.matter) from failure
        model: LoadedModel = (Embedder if plan.embedding else Writer)(native, plan, secrets.randbits, listener)
        return model


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
