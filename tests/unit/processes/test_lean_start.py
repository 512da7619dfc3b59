"""What the command loads before its first worker starts is on every start's critical path."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["aiohttp", "pydantic", "rich", "yaml", "prometheus_client", "gateway.config"])
def test_a_heavy_package_is_not_loaded_before_the_first_worker_starts(heavy: str) -> None:
    code = f"import sys, gateway.cli, gateway.processes; print({heavy!r} in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout == "False\n"
