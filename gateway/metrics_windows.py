"""What is counted of requests that were, or might have been, over a model's window."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from gateway.call import Record


class WindowCounts:
    """Counters by alias; `registry` is what the page is made of."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._truncated = Counter(
            "gateway_truncated_requests",
            "Requests of which something was over the model's window: left out of a chat, not embedded or in parts.",
            ["alias"],
            registry=registry,
        )
        self._lowered = Counter(
            "gateway_lowered_max_tokens",
            "Requests whose longest answer was lowered to what was left of the model's window.",
            ["alias"],
            registry=registry,
        )
        self._counted = Counter(
            "gateway_counted_requests",
            "Requests whose tokens were counted, because by their bytes they might have been over the model's window.",
            ["alias"],
            registry=registry,
        )

    def observe(self, record: Record) -> None:
        if record.truncated_tokens:
            self._truncated.labels(record.alias).inc()
        if record.is_counted:
            self._counted.labels(record.alias).inc()
        if record.max_tokens is not None:
            self._lowered.labels(record.alias).inc()
