"""The counting room: how many tokens a text has for a model, and what of it fits into a window."""

from gateway.tokens.chat_fitting import fit_chat
from gateway.tokens.chats import ChatCount, count_chat, most_tokens
from gateway.tokens.choosing import Counting, counting_of
from gateway.tokens.counters import Counter, EncodingCounter, SearchingCounter
from gateway.tokens.encodings import EncodingName, Encodings
from gateway.tokens.inputs import (
    Fitted,
    HostedTokenizer,
    ModelTokenizer,
    Piece,
    Policy,
    TakenApart,
    Tokenizer,
    fit_input,
)
from gateway.tokens.outcomes import ChatPolicy, DoesNotFit, FittedChat

__all__ = [
    "ChatCount",
    "ChatPolicy",
    "Counter",
    "Counting",
    "DoesNotFit",
    "EncodingCounter",
    "EncodingName",
    "Encodings",
    "Fitted",
    "FittedChat",
    "HostedTokenizer",
    "ModelTokenizer",
    "Piece",
    "Policy",
    "SearchingCounter",
    "TakenApart",
    "Tokenizer",
    "count_chat",
    "counting_of",
    "fit_chat",
    "fit_input",
    "most_tokens",
]
