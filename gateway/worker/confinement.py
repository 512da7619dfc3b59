"""What keeps the worker in its place: it ends with its parent, keeps its memory and its socket to itself.

Linux's prctl is used where it exists; elsewhere the watch over the parent does the same a second later.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import sys
from pathlib import Path

from gateway.worker.reports import Failure

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def confine() -> None:
    """Die when the parent dies, leave no core file, and let no other process of this user read our memory."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise Failure(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the kernel was asked to tell
        raise Failure("the parent process is gone")


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
