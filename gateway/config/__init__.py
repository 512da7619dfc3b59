"""The configuration: a YAML file in, a frozen Config out, every mistake told with its line."""

from gateway.config.document import Config
from gateway.config.loading import load, parse, read_file
from gateway.config.resolving import Resolved, resolve
from gateway.config.rules import is_loopback

__all__ = ["Config", "Resolved", "is_loopback", "load", "parse", "read_file", "resolve"]
