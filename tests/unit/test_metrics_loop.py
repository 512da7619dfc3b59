"""The event loop's lag is seen by a timer that is late."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from gateway.metrics_loop import PERIOD_SECONDS, LoopLag


async def test_whatever_holds_the_loop_up_is_seen() -> None:
    registry = CollectorRegistry()
    lag = LoopLag(registry)
    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)

    time.sleep(3 * PERIOD_SECONDS)  # which is what is to be seen
    await asyncio.sleep(0.001)
    watching.cancel()
    lag.settle()

    assert registry.get_sample_value("gateway_event_loop_lag_seconds_count") == 1
    assert (registry.get_sample_value("gateway_event_loop_lag_seconds_sum") or 0.0) > PERIOD_SECONDS
