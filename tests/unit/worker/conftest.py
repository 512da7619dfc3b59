"""The real models, for the tests that read a real header."""

from tests.support.models import chat_gguf, embedding_gguf

__all__ = ["chat_gguf", "embedding_gguf"]
