"""The OpenAI wire: request shapes and their checks, server-sent events, token usage.

The wire is the gateway's internal format, so nothing here translates; whoever talks to an upstream is in `providers/`.
"""

from gateway.wire.embeddings import Written, split_inputs, write_answer
from gateway.wire.events import data_of, encode_event, error_in, parse_event, tells_something
from gateway.wire.fields import CHAT_FIELDS
from gateway.wire.images import ImageScanner, check_image, has_images, read_image_usage
from gateway.wire.objects import dump, parse_object
from gateway.wire.pooling import pool
from gateway.wire.requests import check_chat, check_completion, check_embedding
from gateway.wire.rerank import arrange_ranking, check_rerank, find_ranking_flaw, read_rank_usage
from gateway.wire.sse import DONE_EVENT, EventTooLarge, SseScanner
from gateway.wire.steering import STEERING, refuse_steering
from gateway.wire.usage import read_usage
from gateway.wire.vectors import FLOAT_BYTES, count_inputs, read_vectors

__all__ = [
    "CHAT_FIELDS",
    "DONE_EVENT",
    "FLOAT_BYTES",
    "STEERING",
    "EventTooLarge",
    "ImageScanner",
    "SseScanner",
    "Written",
    "arrange_ranking",
    "check_chat",
    "check_completion",
    "check_embedding",
    "check_image",
    "check_rerank",
    "count_inputs",
    "data_of",
    "dump",
    "encode_event",
    "error_in",
    "find_ranking_flaw",
    "has_images",
    "parse_event",
    "parse_object",
    "pool",
    "read_image_usage",
    "read_rank_usage",
    "read_usage",
    "read_vectors",
    "refuse_steering",
    "split_inputs",
    "tells_something",
    "write_answer",
]
