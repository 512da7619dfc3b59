"""How this process's memory goes back to the system: not after every large answer.

glibc gives the end of its heap back whenever 128 KiB there are free, and takes blocks from 128 KiB on from the system one
by one; each page of them is then cleared and mapped anew. An answer with 64 embeddings is built of a megabyte: that took
540 µs, and takes 50 µs where the pages stay (bench/design.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES = 8 << 20  # free at the end of the heap, before it is given back
LARGE_BYTES = 4 << 20  # from which on a block is the system's own; setting either ends glibc's own guessing

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_SAID_BY_OPERATOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_pages() -> bool:
    """Let freed memory stay with this process for its next answer; return whether that was to be had.

    It is with glibc alone, and not where an operator has set its tunables.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SAID_BY_OPERATOR):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    )
