"""Fixtures that every test may use."""

from __future__ import annotations

from hypothesis import settings

from tests.support.models import chat_gguf, embedding_gguf

__all__ = ["chat_gguf", "embedding_gguf"]

settings.register_profile("any machine", deadline=None)  # a deadline is wall-clock time: noise on a shared machine
settings.load_profile("any machine")
