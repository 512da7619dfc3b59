"""What an engine asks of the machine: processor features and system libraries.

An extension module built for a newer processor dies of SIGILL on import, so both are looked at before any import.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
PACKAGES_OF_LIBRARIES = {"libgomp.so.1": "libgomp1", "libstdc++.so.6": "libstdc++6"}  # Debian's names


def why_package_missing(package: str, extra: str) -> str | None:
    """Return how to get `package` when it is not installed; nothing is imported."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f"the package {package} is not installed (pip install 'one-gateway[{extra}]')"


def why_cpu_lacks(features: Sequence[str]) -> str | None:
    """Return which of an x86-64 processor's `features` are missing; other processors and systems are not judged."""
    if platform.machine() not in {"x86_64", "AMD64"} or not CPUINFO.is_file():
        return None
    missing = missing_features(CPUINFO.read_text(encoding="utf-8", errors="replace"), features)
    return f"this processor lacks {', '.join(name.upper() for name in missing)}" if missing else None


def missing_features(cpuinfo: str, features: Sequence[str]) -> list[str]:
    """Return the `features` that the first processor of a /proc/cpuinfo text does not list."""
    listed = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    if listed is None:
        return []
    present = set(listed.partition(":")[2].split())
    return [name for name in features if name not in present]


def why_library_missing(names: Sequence[str]) -> str | None:
    """Return which shared library is missing and what Debian calls its package; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            package = PACKAGES_OF_LIBRARIES.get(name)
            return f"the system library {name} is missing" + (f" (apt install {package})" if package else "")
    return None
