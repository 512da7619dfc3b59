"""A program of its own that serves one GGUF model in the OpenAI wire over a Unix socket: `python -m gateway.worker`.

The gateway's processes import from here only what they need to know beforehand: whether a file is a model, and whether
an engine runs on this machine. No engine is imported outside the worker's own process, and this file stays cheap to import.
"""

from gateway.worker.engine import EngineName, why_unavailable
from gateway.worker.gguf_header import GgufError, GgufSummary, check_gguf
from gateway.worker.llama_cpp_python_engine import VERSION as LLAMA_CPP_PYTHON_VERSION
from gateway.worker.reports import EXIT_BAD_MODEL, EXIT_NO_ENGINE, EXIT_OTHER

__all__ = [
    "EXIT_BAD_MODEL",
    "EXIT_NO_ENGINE",
    "EXIT_OTHER",
    "LLAMA_CPP_PYTHON_VERSION",
    "EngineName",
    "GgufError",
    "GgufSummary",
    "check_gguf",
    "why_unavailable",
]
