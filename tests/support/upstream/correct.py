"""The upstream that does everything right: what is played when no script says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field

from .answer import Answer, Behaviour, resolve
from .chat import Chat, Completion
from .embeddings import Embeddings
from .plain import Models, Status
from .seen import SeenRequest


@dataclass(frozen=True)
class Correct:
    """The right answer for the request's path; 404 for a path that OpenAI would not know either."""

    chat: Behaviour = field(default_factory=Chat)
    completion: Behaviour = field(default_factory=Completion)
    embeddings: Behaviour = field(default_factory=Embeddings)
    models: Behaviour = field(default_factory=Models)

    def answer(self, request: SeenRequest) -> Answer:
        return resolve(self._choose(request), request)

    def _choose(self, request: SeenRequest) -> Behaviour:
        path = request.path
        if request.method == "GET" and "/models" in path:
            return self.models
        if request.method != "POST":
            return Status(405 if path.endswith(("completions", "embeddings")) else 404)
        if path.endswith("/chat/completions"):
            return self.chat
        if path.endswith("/completions"):
            return self.completion
        if path.endswith("/embeddings"):
            return self.embeddings
        return Status(404)
