"""A cancellation that comes together with what was waited for is not lost: who ends a task waits for its end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.cache_disk import open_tier


async def test_a_cancellation_at_the_moment_of_the_answer_is_obeyed(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    await tier.generation()
    asking = asyncio.create_task(tier.generation())
    await asyncio.sleep(0)

    time.sleep(0.1)  # the thread has answered, the loop has not seen it
    asyncio.get_running_loop().call_soon(asking.cancel)

    with pytest.raises(asyncio.CancelledError):
        await asking
    await tier.close()
