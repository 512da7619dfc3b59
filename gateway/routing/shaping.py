"""What one deployment is sent: the caller's fields, the settings that fill in the rest, and what its model cannot take.

The caller's value wins, then the style's, then the deployment's, then the preset's. Nothing is sent or tried here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.call import Call
from gateway.errors import UpstreamRejected
from gateway.routing.styles import STYLES
from gateway.routing.table import Deployment

TOKEN_FIELDS = ("max_completion_tokens", "max_tokens")
_STYLED = ("chat/completions", "completions")
_REFUSALS = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
_NEEDED = frozenset({"input", "messages", "model", "prompt", "stream", "stream_options"})
_MOST_REMEMBERED = 32  # fields of one deployment; no model refuses more
_MOST_DEPLOYMENTS = 1000  # callers may spell out models, and so make up deployments


@dataclass(slots=True)
class Learnt:
    """What a deployment turned out to refuse, and what it calls the longest answer."""

    refuses: set[str] = field(default_factory=set)
    token_field: str | None = None


class Refusals:
    """Remembers what deployments refused."""

    def __init__(self) -> None:
        self._learnt: dict[str, Learnt] = {}

    def of(self, deployment: str) -> Learnt | None:
        return self._learnt.get(deployment)

    def learn(self, call: Call, deployment: Deployment, sent: Mapping[str, Any], error: UpstreamRejected) -> bool:
        """Take note of what `error` says of a field that was `sent`; return whether asking again may go better.

        Only fields that the gateway added are given up, unless the deployment drops what its model cannot take.
        """
        name = error.param
        if error.code not in _REFUSALS or not name or name not in sent or not _is_plain(name):
            return False
        if deployment.name not in self._learnt and len(self._learnt) >= _MOST_DEPLOYMENTS:
            return False
        learnt = self._learnt.setdefault(deployment.name, Learnt())
        if name in TOKEN_FIELDS:
            if error.code == "unsupported_value" or learnt.token_field is not None:
                return False
            learnt.token_field = TOKEN_FIELDS[1 - TOKEN_FIELDS.index(name)]
            return True
        is_ours = call.body.get(name) is None
        if not is_ours and not (deployment.drop_params and name not in _NEEDED):
            return False
        if len(learnt.refuses) < _MOST_REMEMBERED:
            learnt.refuses.add(name)
        return name in learnt.refuses


def _is_plain(name: str) -> bool:
    """Tell whether a name that the caller may have chosen can be written in a header."""
    return name.isascii() and name.isidentifier()


def shape(call: Call, deployment: Deployment, refusals: Refusals) -> dict[str, Any]:
    """Return the fields that `deployment` is to be sent for `call`, and record which of the caller's are left out."""
    learnt = refusals.of(deployment.name)
    settings = deployment.settings[call.endpoint]
    if call.style or learnt is not None:
        settings = _styled(call, deployment, settings, learnt)
    body = {**settings, **call.body}
    if settings and None in call.body.values():
        # Settings also stand for what came as null: clients write out fields that nobody set.
        body.update({name: value for name, value in settings.items() if body[name] is None})
    if deployment.drop_params:
        _drop(call, body, {*deployment.refuses, *(learnt.refuses if learnt is not None else ())})
    if "max_tokens" in body or "max_completion_tokens" in body:
        _name_tokens(body, call, deployment, learnt)
    return body


def _styled(
    call: Call, deployment: Deployment, settings: Mapping[str, Any], learnt: Learnt | None
) -> Mapping[str, Any]:
    """Return the settings with the call's style laid over them, less what the model refuses."""
    style = STYLES[call.style] if call.style and call.endpoint in _STYLED else {}
    refused = {*deployment.refuses, *(learnt.refuses if learnt is not None else ())}
    return {name: value for name, value in {**settings, **style}.items() if name not in refused}


def _drop(call: Call, body: dict[str, Any], refused: Collection[str]) -> None:
    dropped = [name for name in body if name in refused and name not in _NEEDED]
    for name in dropped:
        del body[name]
    call.record.dropped = tuple(name for name in dropped if call.body.get(name) is not None)


def _name_tokens(body: dict[str, Any], call: Call, deployment: Deployment, learnt: Learnt | None) -> None:
    """Say the longest answer once, in the upstream's word, and no longer than its model can make it."""
    asked = call.body
    word = "max_completion_tokens" if asked.get("max_completion_tokens") is not None else "max_tokens"
    if asked.get(word) is None and body.get(word) is None:
        word = TOKEN_FIELDS[1 - TOKEN_FIELDS.index(word)]
    value = body.get(word)
    if value is None or call.endpoint not in _STYLED:
        return
    limit = deployment.max_output_tokens
    if limit is not None and value > limit:
        value = limit
    name = deployment.token_field if learnt is None or learnt.token_field is None else learnt.token_field
    if call.endpoint == "completions":
        name = "max_tokens"
    for other in TOKEN_FIELDS:
        body.pop(other, None)
    body[name or word] = value
