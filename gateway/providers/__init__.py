"""The far sides: one protocol, and the code for each kind of upstream.

All but the settings is imported when it is first asked for, see `doors.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.doors import lazily
from gateway.providers.settings import (
    BatchInputs,
    BatchTokens,
    HostedSettings,
    LiteLLMSettings,
    LlamaCppSettings,
    LocalModelSettings,
    ModelFacts,
    OpenAISettings,
    TokenField,
)

if TYPE_CHECKING:
    from gateway.providers.availability import why_unavailable
    from gateway.providers.base import Exchange, Patience, PlainReply, Provider, Reply
    from gateway.providers.batches import batch_limits
    from gateway.providers.litellm import LiteLLM
    from gateway.providers.litellm_environment import key_source
    from gateway.providers.llamacpp import LlamaCpp, LocalModel
    from gateway.providers.llamacpp_crashes import Crashes
    from gateway.providers.llamacpp_tokens import TakesApart, TokenIds
    from gateway.providers.manners import Manners
    from gateway.providers.openai import OpenAIWire
    from gateway.providers.pricemap import lists, look_up

__all__ = [
    "BatchInputs",
    "BatchTokens",
    "Crashes",
    "Exchange",
    "HostedSettings",
    "LiteLLM",
    "LiteLLMSettings",
    "LlamaCpp",
    "LlamaCppSettings",
    "LocalModel",
    "LocalModelSettings",
    "Manners",
    "ModelFacts",
    "OpenAISettings",
    "OpenAIWire",
    "Patience",
    "PlainReply",
    "Provider",
    "Reply",
    "TakesApart",
    "TokenField",
    "TokenIds",
    "batch_limits",
    "key_source",
    "lists",
    "look_up",
    "why_unavailable",
]

__getattr__ = lazily(
    __name__,
    {
        "Exchange": "base",
        "LiteLLM": "litellm",
        "Crashes": "llamacpp_crashes",
        "LlamaCpp": "llamacpp",
        "LocalModel": "llamacpp",
        "Manners": "manners",
        "OpenAIWire": "openai",
        "Patience": "base",
        "PlainReply": "base",
        "Provider": "base",
        "Reply": "base",
        "TakesApart": "llamacpp_tokens",
        "TokenIds": "llamacpp_tokens",
        "batch_limits": "batches",
        "key_source": "litellm_environment",
        "lists": "pricemap",
        "look_up": "pricemap",
        "why_unavailable": "availability",
    },
)
