"""What llama.cpp writes to standard error while it loads a model, kept so that a failure can be told in its words.

Loading holds the interpreter's lock, so no thread of ours could read a pipe meanwhile: the lines go to a file beside the
socket and from there to standard error. A crash leaves the file behind, and the next start passes its lines on.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from types import TracebackType

LONGEST_REASON = 300
LOOKS, LOOK_SECONDS = 10, 0.02
_CAUSE = re.compile(rb"error loading model: (?:error loading model \w+: )?(.+)")


class LoadLog:
    """Standard error of the block it stands around."""

    def __init__(self, socket: Path) -> None:
        self._file = socket.with_suffix(".load.log")
        self._saved = -1

    def __enter__(self) -> LoadLog:
        self._pass_on()
        sys.stderr.flush()
        self._saved = os.dup(2)
        descriptor = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._pass_on()

    def reason(self) -> str:
        """Return why llama.cpp would not load the model, "" where it did not say.

        A thread of llama.cpp's own writes its lines, so the last ones may come a moment later than its refusal.
        """
        for _ in range(LOOKS):
            found = _CAUSE.findall(self._file.read_bytes())
            if found:
                break
            time.sleep(LOOK_SECONDS)
        return found[0].decode("utf-8", "replace").strip()[:LONGEST_REASON] if found else ""

    def _pass_on(self) -> None:
        if self._file.is_file():
            os.write(2, self._file.read_bytes())
            self._file.unlink()
