"""The corridor: what happens to a call, told one line per concern."""

from gateway.dispatch.chat import ChatDispatcher
from gateway.dispatch.embeddings import EmbeddingDispatcher
from gateway.dispatch.images import ImageDispatcher
from gateway.dispatch.rerank import RerankDispatcher

__all__ = ["ChatDispatcher", "EmbeddingDispatcher", "ImageDispatcher", "RerankDispatcher"]
