"""The library litellm itself: imported once and off the event loop, and made quiet.

What is asked of it is said in `litellm_request.py`; this module knows its switches and its call signatures only.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib import import_module
from typing import Any

from gateway.providers.litellm_environment import install, unseen
from gateway.providers.litellm_opening import take_over
from gateway.providers.litellm_words import teach

_SETTINGS: dict[str, Any] = {
    "telemetry": False,
    "user_url_validation": True,  # pictures are fetched by litellm, never from inside the network
    "suppress_debug_info": True,
    "drop_params": False,
    "modify_params": False,
    "num_retries": 0,
    "cache": None,
    "model_fallbacks": None,
    "max_budget": 0.0,
    "disable_stop_sequence_limit": True,  # else a fifth one is left out without a word
    "disable_token_counter": True,
    "disable_streaming_logging": True,
    "disable_add_transform_inline_image_block": True,
    "REPEATED_STREAMING_CHUNK_LIMIT": sys.maxsize,  # a ruled line is a good answer
}
_CALLBACKS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


def load(prefix: str) -> Any:
    """Import litellm, which takes seconds, and return it with everything switched off that is not asking.

    What it would import at the first call to `prefix` is imported too. Raises ImportError.
    """
    install()
    with unseen():  # it keeps keys and addresses that it finds while it is imported
        return _load(prefix)


def _load(prefix: str) -> Any:
    library = import_module("litellm")
    for name, value in _SETTINGS.items():
        if name in vars(library):  # a switch that a later version dropped is not invented
            setattr(library, name, value)
    for name in _CALLBACKS:
        if name in vars(library):
            setattr(library, name, [])
    for name in _LOGGERS:  # whatever they say may hold prompts or keys
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = False
        logger.setLevel(logging.CRITICAL + 1)
    take_over(library)
    teach()
    _warm_up(library, prefix)
    return library


def _warm_up(library: Any, prefix: str) -> None:
    """Let litellm do now, in a thread, what would hold up the event loop for a third of a second at the first call."""
    getattr(library, "encoding", None)
    mapped_fields(library, prefix, "any", "chat/completions")


def mapped_fields(library: Any, prefix: str, model: str, endpoint: str) -> frozenset[str]:
    """Return the OpenAI fields that litellm puts into the upstream's own words."""
    if endpoint == "images/generations":
        return frozenset()
    kind = "embeddings" if endpoint == "embeddings" else "chat_completion"
    return frozenset(library.get_supported_openai_params(model, custom_llm_provider=prefix, request_type=kind) or ())


def thinking_of(library: Any, effort: Any, prefix: str, model: str) -> Any:
    """Return the `thinking` that litellm makes of an effort for a Claude model; raises what it raises for a wrong one."""
    return library.AnthropicConfig.map_reasoning_effort(effort, model, prefix)


def quiet_records() -> Callable[[Mapping[str, Any], str], Any]:
    """Return what makes the record that litellm keeps of one call, as one that prices and reports nothing.

    The gateway counts by itself; left to its own record litellm would price every answer and hand it to its loggers, which
    is half of what a call costs. The maker takes the call's keywords and the name of the function.
    """
    kind = import_module("litellm.litellm_core_utils.litellm_logging").Logging

    class Quiet(kind):  # type: ignore[misc,valid-type]  # only known once litellm is imported
        def response_cost_calculator(self, *_: Any, **__: Any) -> None:
            return None

        def claim_async_success_log(self) -> bool:
            return False

        def failure_handler(self, *_: Any, **__: Any) -> None:
            return None

        async def async_failure_handler(self, *_: Any, **__: Any) -> None:
            return None

    def make(made: Mapping[str, Any], function: str) -> Any:
        record = Quiet(
            model=made["model"],
            messages=made.get("messages") or made.get("input") or made.get("prompt"),
            stream=made.get("stream", False),
            call_type=function,
            start_time=datetime.now(),  # noqa: DTZ005  # as litellm's own, which it takes the difference to
            litellm_call_id="",
            function_id="",
            litellm_trace_id="-",
        )
        record.update_environment_variables(
            model=made["model"],
            user="",
            optional_params={},
            litellm_params={"api_base": ""},
            stream_options=made.get("stream_options"),
        )
        return record

    return make


def open_client() -> Any:
    """Return the client that litellm is to ask with, over what was lent to the call at hand."""
    return _handlers().AsyncHTTPHandler()


def open_thread_client() -> Any:
    """Return the client for the functions of litellm that block a thread."""
    return _handlers().HTTPHandler()


def _handlers() -> Any:
    return import_module("litellm.llms.custom_httpx.http_handler")
