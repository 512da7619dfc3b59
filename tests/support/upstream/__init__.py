"""A real server that plays OpenAI by a script, right or wrong in every way a test asks for.

    async with ScriptedUpstream() as upstream:
        upstream.script(Status(429, retry_after="2"), Chat("hello"))
        ... speak to upstream.base_url, then look at upstream.requests

It knows nothing of the product.
"""

from .answer import Answer, Behaviour, Framing, Scripted, resolve
from .bodies import encode, encode_event, make_error, make_usage
from .chat import DONE, Chat, Completion, ToolCall
from .correct import Correct
from .embeddings import (
    DIMENSIONS,
    Embeddings,
    add_one,
    cut_base64,
    drop_all,
    drop_index,
    drop_last,
    empty_all,
    encode_vector,
    make_vector,
    put_infinity,
    put_nan,
    put_nan_in_base64,
    put_null,
    put_text,
    put_truth,
    put_word,
    repeat_index,
    reverse_order,
    shorten_last,
)
from .forms import FORMS, SseForm
from .images import Images, encode_named_event, make_image_usage, make_picture
from .plain import Body, CommentsOnly, Events, Hang, Html, Huge, Malformed, Models, Raw, Redirect, Reset, Stale, Status
from .ports import black_hole, closed_port
from .seen import MalformedRequest, SeenRequest
from .server import Connection, Connections, ScriptedUpstream
from .steps import Ending, Gate, Pause, Repeated, Step
from .wrappers import (
    Changed,
    Cut,
    Delayed,
    ErrorEvent,
    Formed,
    Framed,
    Gzipped,
    Held,
    Inserted,
    Sliced,
    Truncated,
    Typed,
    WithHeaders,
)

__all__ = [
    "DIMENSIONS",
    "DONE",
    "FORMS",
    "Answer",
    "Behaviour",
    "Body",
    "Changed",
    "Chat",
    "CommentsOnly",
    "Completion",
    "Connection",
    "Connections",
    "Correct",
    "Cut",
    "Delayed",
    "Embeddings",
    "Ending",
    "ErrorEvent",
    "Events",
    "Formed",
    "Framed",
    "Framing",
    "Gate",
    "Gzipped",
    "Hang",
    "Held",
    "Html",
    "Huge",
    "Images",
    "Inserted",
    "Malformed",
    "MalformedRequest",
    "Models",
    "Pause",
    "Raw",
    "Redirect",
    "Repeated",
    "Reset",
    "Scripted",
    "ScriptedUpstream",
    "SeenRequest",
    "Sliced",
    "SseForm",
    "Stale",
    "Status",
    "Step",
    "ToolCall",
    "Truncated",
    "Typed",
    "WithHeaders",
    "add_one",
    "black_hole",
    "closed_port",
    "cut_base64",
    "drop_all",
    "drop_index",
    "drop_last",
    "empty_all",
    "encode",
    "encode_event",
    "encode_named_event",
    "encode_vector",
    "make_error",
    "make_image_usage",
    "make_picture",
    "make_usage",
    "make_vector",
    "put_infinity",
    "put_nan",
    "put_nan_in_base64",
    "put_null",
    "put_text",
    "put_truth",
    "put_word",
    "repeat_index",
    "resolve",
    "reverse_order",
    "shorten_last",
]
