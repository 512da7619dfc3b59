"""A call that comes before litellm is imported waits for it no longer than its patience; it needs a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, os, sys, time
from gateway.errors import UpstreamTimeout
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import make_exchange, make_patience

async def main():
    url = "http://127.0.0.1:9"
    lane = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix="anthropic", base_url=url, api_key="x"))
    try:
        await lane.send(make_exchange(stream=True, patience=make_patience(first_event=0.1)))
    except UpstreamTimeout as error:
        print(error.message, hasattr(sys.modules.get("litellm"), "acompletion"), flush=True)
    os._exit(0)  # the import would be waited for

asyncio.run(main())
"""


def test_a_call_waits_for_the_import_no_longer_than_its_patience() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout == "The upstream did not answer within 0.1 seconds. False\n", done.stderr[-2000:]
