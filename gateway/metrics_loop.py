"""How late the event loop is: the one figure that says whether anything in this process holds everybody up.

A timer is set again and again; by how much it is late is what any other callback waits too.
"""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Histogram

from gateway.tallies import Tallies

PERIOD_SECONDS = 0.05
# Seconds. The loop's timers themselves are exact to a millisecond.
BUCKETS = (0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class LoopLag:
    """The lag of one process's loop; `registry` is what the page is made of."""

    def __init__(self, registry: CollectorRegistry) -> None:
        histogram = Histogram(
            "gateway_event_loop_lag_seconds",
            "How late a timer of the event loop was, twenty times a second.",
            buckets=BUCKETS,
            registry=registry,
        )
        self._tallies = Tallies()
        self._lag = self._tallies.histogram(histogram)

    async def watch(self) -> None:
        """Observe until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_SECONDS
            await asyncio.sleep(PERIOD_SECONDS)
            self._lag.observe(max(0.0, loop.time() - due))

    def settle(self) -> None:
        """Bring the figures up to what was observed."""
        self._tallies.settle()
