"""The corridor: what happens to a call, told one line per concern."""

from gateway.dispatch.chat import ChatDispatcher
from gateway.dispatch.counting import TokenCount, TokenCounts
from gateway.dispatch.embeddings import EmbeddingDispatcher
from gateway.dispatch.errands import Errands, Terms
from gateway.dispatch.fitting import Fitting
from gateway.dispatch.flights import Flights
from gateway.dispatch.images import ImageDispatcher
from gateway.dispatch.rerank import RerankDispatcher
from gateway.dispatch.tokenizers import Tokenizers

__all__ = [
    "ChatDispatcher",
    "EmbeddingDispatcher",
    "Errands",
    "Fitting",
    "Flights",
    "ImageDispatcher",
    "RerankDispatcher",
    "Terms",
    "TokenCount",
    "TokenCounts",
    "Tokenizers",
]
