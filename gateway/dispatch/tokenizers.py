"""Who counts the tokens of a deployment: the process of a local model, or an encoding for whatever is asked elsewhere.

How either counts is in `tokens/`, how a process is asked in `providers/`.
"""

from __future__ import annotations

from pathlib import Path

from gateway.providers import TakesApart
from gateway.routing import Deployment
from gateway.rundir import model_status, read_status
from gateway.tokens import Encodings, HostedTokenizer, ModelTokenizer, TakenApart, Tokenizer, counting_of

_SECONDS = 20.0  # that a loaded model may take to tell the tokens of one text; less than whoever counts waits for it


class ModelGone(Exception):
    """A model that told its tokens does not any more."""


class Tokenizers:
    """Finds them for deployments."""

    def __init__(self, encodings: Encodings) -> None:
        self._encodings = encodings

    def of(self, deployment: Deployment) -> Tokenizer:
        """Return who counts for a deployment."""
        return self.own(deployment) or HostedTokenizer(self._encodings, counting_of(deployment.model))

    def own(self, deployment: Deployment) -> ModelTokenizer | None:
        """Return the model's own tokenizer, which asks its process; None where there is none on this machine."""
        provider, model = deployment.provider, deployment.model
        if not isinstance(provider, TakesApart):
            return None
        return ModelTokenizer(lambda text, most: provider.take_apart(model, text, most=most))

    def loaded(self, run_dir: Path, deployment: Deployment) -> ModelTokenizer | None:
        """Return the model's own tokenizer if the model is loaded, as its process writes in `run_dir`.

        It raises ModelGone where it does not tell.
        """
        provider, model = deployment.provider, deployment.model
        if not isinstance(provider, TakesApart):
            return None
        if read_status(model_status(run_dir, provider.name, model)).state != "ready":
            return None

        async def ask(text: str, most: int | None) -> TakenApart:
            taken = await provider.take_apart(model, text, most=most, seconds=_SECONDS)
            if taken is None:
                raise ModelGone
            return taken

        return ModelTokenizer(ask)
