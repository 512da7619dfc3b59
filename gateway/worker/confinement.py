"""What keeps the worker in its place: it ends with its parent, keeps its memory and its socket to itself, takes no more
memory than it may.

Linux's prctl is used where it exists; elsewhere the watch over the parent does the same a second later.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path

from gateway.worker.reports import Failure

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4

STACK_MIB = 8  # of address space for each thread, hardly any of it touched
OTHER_THREADS = 16  # beside those that compute and those that answer: timers, the loop of the front, llama.cpp's own
FIRST_TO_GO = 500  # of 1000


def confine() -> None:
    """Die when the parent dies, leave no core file, and let no other process of this user read our memory."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError):  # a container may forbid it, and all is well while there is memory
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_GO), encoding="ascii")  # the kernel spares the gateway
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise Failure(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the kernel was asked to tell
        raise Failure("the parent process is gone")


def limit_memory(mebibytes: int, threads: int) -> None:
    """Let every allocation fail that would take this process over `mebibytes`; it may start that many `threads`.

    The model's file does not count, which is mapped and can be read again; of the buffers all that was asked for does. So
    do the stacks of threads, which are therefore allowed besides.
    """
    wanted = (mebibytes + STACK_MIB * (threads + OTHER_THREADS)) * 1024 * 1024
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or wanted < most:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


def claim_socket(socket: Path) -> None:
    """Make sure that nobody else can reach `socket` and that nothing stands at its place; raises Failure."""
    try:
        state = socket.parent.stat()
    except OSError as error:
        raise Failure(f"the directory of the socket: {error.strerror}") from error
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o077:
        raise Failure("the directory of the socket must be ours and have mode 0700")
    if socket.is_socket():
        socket.unlink()
    elif socket.exists():
        raise Failure("there is a file in the place of the socket")
