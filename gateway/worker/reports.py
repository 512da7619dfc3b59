"""What the worker tells its parent: one JSON object a line on standard output, and exit codes as in sysexits.h."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any

EXIT_BAD_MODEL = 65  # the file is no model that can be loaded; starting again would end the same way
EXIT_NO_ENGINE = 69  # the engine is not installed or does not run on this machine
EXIT_OTHER = 70


class Failure(Exception):
    """The worker cannot serve; the text is one clause, `exit_code` what the process ends with.

    `matter` is a clause that callers may read, without names of files and without words of theirs; "" where the exit
    code says as much.
    """

    def __init__(self, reason: str, exit_code: int = EXIT_OTHER, *, matter: str = "") -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.matter = matter


class Reports:
    """The way to the parent: a copy of standard output, whose own number then leads to standard error.

    Native code that prints can so never be taken for a report.
    """

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        os.dup2(2, 1)

    def send(self, event: str, **details: Any) -> None:
        """Write one report; a parent that no longer reads is noticed elsewhere."""
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._descriptor, json.dumps({"event": event, **details}).encode() + b"\n")

    def never_wait(self) -> None:
        """From here on drop what a parent that does not read leaves no room for: callers are waiting."""
        if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):  # a file or a terminal may be others' as well
            os.set_blocking(self._descriptor, False)
