"""The counting room: how many tokens a text has for a model, and what of it fits into a window."""

from gateway.tokens.choosing import Counting, counting_of
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

__all__ = [
    "Counting",
    "EncodingName",
    "Encodings",
    "Fitted",
    "HostedTokenizer",
    "ModelTokenizer",
    "Piece",
    "Policy",
    "TakenApart",
    "Tokenizer",
    "counting_of",
    "fit_input",
]
