"""The OpenAI wire: request shapes and their checks, server-sent events, token usage.

The wire is the gateway's internal format, so nothing here translates; whoever talks to an upstream is in `providers/`.
"""

from gateway.wire.objects import dump, parse_object
from gateway.wire.requests import check_chat, check_completion, check_embedding
from gateway.wire.sse import DONE_EVENT, EventTooLarge, SseScanner, data_of, encode_event, parse_event
from gateway.wire.usage import read_usage

__all__ = [
    "DONE_EVENT",
    "EventTooLarge",
    "SseScanner",
    "check_chat",
    "check_completion",
    "check_embedding",
    "data_of",
    "dump",
    "encode_event",
    "parse_event",
    "parse_object",
    "read_usage",
]
