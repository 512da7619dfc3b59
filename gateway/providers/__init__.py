"""The far sides: one protocol, and the code for each kind of upstream."""

from gateway.providers.base import Exchange, Patience, PlainReply, Provider, Reply
from gateway.providers.llamacpp import LlamaCpp, LocalModel
from gateway.providers.openai import OpenAIWire
from gateway.providers.settings import LlamaCppSettings, LocalModelSettings, OpenAISettings

__all__ = [
    "Exchange",
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
