"""The far sides: one protocol, and the code for each kind of upstream.

All but the settings is imported when it is first asked for, see `doors.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.doors import lazily
from gateway.providers.settings import LiteLLMSettings, LlamaCppSettings, LocalModelSettings, OpenAISettings

if TYPE_CHECKING:
    from gateway.providers.base import Exchange, Patience, PlainReply, Provider, Reply
    from gateway.providers.llamacpp import LlamaCpp, LocalModel
    from gateway.providers.openai import OpenAIWire

__all__ = [
    "Exchange",
    "LiteLLMSettings",
    "LlamaCpp",
    "LlamaCppSettings",
    "LocalModel",
    "LocalModelSettings",
    "OpenAISettings",
    "OpenAIWire",
    "Patience",
    "PlainReply",
    "Provider",
    "Reply",
]

__getattr__ = lazily(
    __name__,
    {
        "Exchange": "base",
        "LlamaCpp": "llamacpp",
        "LocalModel": "llamacpp",
        "OpenAIWire": "openai",
        "Patience": "base",
        "PlainReply": "base",
        "Provider": "base",
        "Reply": "base",
    },
)
