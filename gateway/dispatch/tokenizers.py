"""Who counts the tokens of a deployment: the process of a local model, or an encoding for whatever is asked elsewhere.

How either counts is in `tokens/`, how a process is asked in `providers/`.
"""

from __future__ import annotations

from pathlib import Path

from gateway.providers import TakesApart
from gateway.routing import Deployment
from gateway.rundir import model_status, read_status
from gateway.tokens import Encodings, HostedTokenizer, ModelTokenizer, Tokenizer, counting_of


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
        """Return the model's own tokenizer if the model is loaded, as its process writes in `run_dir`."""
        status = model_status(run_dir, deployment.provider.name, deployment.model)
        own = self.own(deployment)
        return own if own is not None and read_status(status).state == "ready" else None
