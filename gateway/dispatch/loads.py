"""How the inputs of requests become parts that an upstream takes, and how their vectors come together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.cache import Entry, Space
from gateway.dispatch.flights import Flight
from gateway.errors import UpstreamProtocolError
from gateway.routing import Route
from gateway.tokens import Piece
from gateway.wire import pool

_MOST_TOKENS = (1 << 32) - 1  # that an entry can tell; upstreams may say anything


@dataclass(slots=True)
class Load:
    """One flight's input in pieces: several where it is longer than the model's window and their mean is wanted.

    `over` are its tokens beyond the window, whoever cut them off. `vectors` are there as they come.
    """

    flight: Flight
    pieces: tuple[Piece, ...]
    over: int = 0
    tokens: int = 0
    vectors: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.vectors = [b""] * len(self.pieces)

    @property
    def is_complete(self) -> bool:
        return all(self.vectors)

    def make_entry(self, space: Space, created: int) -> Entry:
        """Return what is remembered of the input; `created` is in Unix seconds.

        Raises UpstreamProtocolError where its pieces came in several sizes, for which there is no mean.
        """
        vector = self.vectors[0]
        if len(self.vectors) > 1:
            check_sizes(self.vectors)
            vector = pool(self.vectors, [piece.tokens for piece in self.pieces])
        tokens, cut = min(self.tokens, _MOST_TOKENS), min(self.over, _MOST_TOKENS)
        return Entry(self.flight.key, space.id, vector, tokens, cut, created, self.flight.until)


Part = list[tuple[Load, int]]  # pieces that are asked for together: whose, and which of its pieces


def divide(loads: Iterable[Load], route: Route) -> Iterator[Part]:
    """Yield parts that every deployment of the route takes in one request, in the order of the loads."""
    most_inputs = min((each.max_batch_inputs for each in route.deployments if each.max_batch_inputs), default=None)
    limit = most_tokens(route)
    part: Part = []
    tokens = 0
    for owner in loads:
        for place, piece in enumerate(owner.pieces):
            is_full = len(part) == most_inputs or (limit is not None and tokens + piece.tokens > limit)
            if part and is_full:
                yield part
                part, tokens = [], 0
            part.append((owner, place))
            tokens += piece.tokens
    if part:
        yield part


def most_tokens(route: Route) -> int | None:
    """Return how many tokens every deployment of a route takes in one request, None where nobody says."""
    return min((each.max_batch_tokens for each in route.deployments if each.max_batch_tokens), default=None)


def check_sizes(vectors: Iterable[bytes]) -> None:
    """Raise UpstreamProtocolError unless all vectors are of one size, though they were asked for in several requests."""
    if len(set(map(len, vectors))) > 1:
        raise UpstreamProtocolError(
            "The upstream's answers have embeddings of several sizes.", code="upstream_bad_response"
        )


def share_tokens(part: Part, tokens: int) -> list[int]:
    """Return each piece's share of the tokens that an upstream counted for all: by length, adding up to all."""
    return _share(tokens, [owner.pieces[place].tokens for owner, place in part])


def share_cut(part: Part, tokens: int, window: int) -> list[int]:
    """Return each piece's share of the tokens that an upstream cut off: by length over the window, adding up to all."""
    lengths = [owner.pieces[place].tokens for owner, place in part]
    over = [max(0, length - window) for length in lengths]
    return _share(tokens, over if any(over) else lengths)


def _share(tokens: int, weights: list[int]) -> list[int]:
    weights = weights if any(weights) else [1] * len(weights)
    whole = sum(weights)
    shares = [tokens * weight // whole for weight in weights]
    left = tokens - sum(shares)
    for place, weight in enumerate(weights):
        if left and weight:
            shares[place] += 1
            left -= 1
    return shares
