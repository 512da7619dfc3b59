"""litellm is imported only where a provider needs it, and then behind an open port; each case has a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, json, sys
from tests.support.app import make_config, running
from tests.support.upstream import ScriptedUpstream

async def main():
    seen = {}
    async with ScriptedUpstream() as upstream:
        config = json.loads(make_config(upstream))
        config["providers"] |= json.loads(sys.argv[1])
        async with running(json.dumps(config)) as gateway:
            seen["first"] = (await gateway.ask("GET", "/healthz")).status
            seen["at first"] = "litellm" in sys.modules and hasattr(sys.modules["litellm"], "acompletion")
            seen["chat"] = (await gateway.chat()).status
            for _ in range(int(sys.argv[2])):
                if hasattr(sys.modules.get("litellm"), "acompletion"):
                    break
                await asyncio.sleep(0.1)
            seen["at last"] = hasattr(sys.modules.get("litellm"), "acompletion")
    print(json.dumps(seen))

asyncio.run(main())
"""


def run(providers: dict[str, Any], patience: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(providers), str(patience)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_without_a_provider_that_needs_it_litellm_is_never_imported() -> None:
    seen = run({}, patience=3)

    assert (seen["first"], seen["chat"]) == (200, 200)
    assert (seen["at first"], seen["at last"]) == (False, False)


def test_with_one_the_port_is_open_before_the_import_is_done() -> None:
    lane = {"kind": "litellm", "prefix": "anthropic", "base_url": "http://127.0.0.1:9", "api_key": "x"}

    seen = run({"far": lane}, patience=600)

    assert (seen["first"], seen["chat"]) == (200, 200)
    assert (seen["at first"], seen["at last"]) == (False, True)
