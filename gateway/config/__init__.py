"""The configuration: a YAML file in, a frozen Config out, every mistake told with its line."""

from gateway.config.document import Config
from gateway.config.loading import load, parse, read_file
from gateway.config.resolving import Resolved, resolve
from gateway.config.retiring import known_facts, retirement, warn_of_retirement
from gateway.config.rules import is_loopback

__all__ = [
    "Config",
    "Resolved",
    "is_loopback",
    "known_facts",
    "load",
    "parse",
    "read_file",
    "resolve",
    "retirement",
    "warn_of_retirement",
]
