"""Fixtures that every test may use."""

from __future__ import annotations

from tests.support.models import chat_gguf, embedding_gguf

__all__ = ["chat_gguf", "embedding_gguf"]
