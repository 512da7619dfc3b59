"""Drives a configuration with every far side replaced by a stand-in that fails on purpose, and says what callers saw."""

from gateway.chaos.configuring import load_without_keys
from gateway.chaos.faults import Fault, faults
from gateway.chaos.report import Report
from gateway.chaos.running import MOST_CASES, PATIENCE_SECONDS, UnknownName, Wishes, run

__all__ = [
    "MOST_CASES",
    "PATIENCE_SECONDS",
    "Fault",
    "Report",
    "UnknownName",
    "Wishes",
    "faults",
    "load_without_keys",
    "run",
]
