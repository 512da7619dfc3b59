"""How much of each input a model takes, and how many inputs at once, before it is asked.

Tokens are counted only where that can matter: a text has no more of them than bytes. How a text is taken apart is the
business of `tokens/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from gateway.dispatch.flights import Flight
from gateway.dispatch.loads import Load, most_tokens
from gateway.routing import Deployment, Route
from gateway.tokens import Piece, Tokenizer, fit_input

_CUTTING = ("end", "mean_pool")


class Fitting:
    """Takes inputs apart by the tokens of a route's model; `tokenizer_of` finds who counts them for a deployment."""

    def __init__(self, tokenizer_of: Callable[[Deployment], Tokenizer]) -> None:
        self._tokenizer_of = tokenizer_of

    async def load(self, flights: Sequence[Flight], route: Route) -> list[Load]:
        """Return what is sent for each input; raises nothing, for what cannot be counted is left to the model."""
        loads = await self._fit(flights, route)
        most = most_tokens(route)
        if most is None or sum(piece.tokens for load in loads for piece in load.pieces) <= most:
            return loads
        tokenizer = self._tokenizer_of(route.deployments[0])
        return [replace(load, pieces=await _counted(load.pieces, tokenizer)) for load in loads]

    async def _fit(self, flights: Iterable[Flight], route: Route) -> list[Load]:
        policy = route.truncation
        if policy == "end" or policy == "mean_pool":  # noqa: PLR1714  mypy narrows no tuple
            tokenizer = self._tokenizer_of(route.deployments[0])
            window = window_of(route) or await tokenizer.window()
            if window is not None:
                fitted = [(flight, await fit_input(flight.given, window, policy, tokenizer)) for flight in flights]
                return [Load(flight, each.pieces, each.over) for flight, each in fitted]
        return [Load(flight, (Piece(flight.given, at_most(flight.given)),)) for flight in flights]


def policy_of(route: Route) -> str:
    """Return what decides, besides the model, what is sent of an input that is too long; "" where that is all of it."""
    return f"{route.truncation} {window_of(route) or ''}" if route.truncation in _CUTTING else ""


def window_of(route: Route) -> int | None:
    """Return how many tokens every deployment of a route takes of one input, None where nobody says."""
    return min((each.context_window for each in route.deployments if each.context_window), default=None)


async def _counted(pieces: Iterable[Piece], tokenizer: Tokenizer) -> tuple[Piece, ...]:
    """Return the pieces with their tokens counted, in the place of a number that they do not have more of."""
    return tuple(
        [
            Piece(piece.given, await tokenizer.count(piece.given)) if isinstance(piece.given, str) else piece
            for piece in pieces
        ]
    )


def at_most(given: str | list[int]) -> int:
    """Return a number of tokens that an input does not have more of: a token is at least one byte."""
    return len(given.encode()) if isinstance(given, str) else len(given)
