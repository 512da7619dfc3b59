"""What one deployment is sent: the caller's fields, the settings that fill in the rest, and what its model cannot take.

The caller's value wins, then the style's, then the deployment's, then the preset's. Nothing is sent or tried here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from gateway.call import Call
from gateway.errors import UpstreamRejected
from gateway.routing.styles import STYLES
from gateway.routing.table import Deployment

TOKEN_FIELDS = ("max_completion_tokens", "max_tokens")
_STYLED = ("chat/completions", "completions")
_REFUSALS = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
_MOST_REMEMBERED = 32  # fields of one deployment; no model refuses more


@dataclass(slots=True)
class Shaped:
    """The fields to send; `added` are those that the caller did not send, `dropped` the caller's that were left out."""

    body: dict[str, Any]
    added: Collection[str] = ()
    dropped: tuple[str, ...] = ()


class Refusals:
    """Remembers which fields a deployment turned out to refuse, and what it calls the longest answer."""

    def __init__(self) -> None:
        self._refused: dict[str, set[str]] = {}
        self._token_fields: dict[str, str] = {}

    def fields(self, deployment: str) -> Collection[str]:
        return self._refused.get(deployment, ())

    def token_field(self, deployment: str) -> str | None:
        return self._token_fields.get(deployment)

    def learn(self, deployment: Deployment, shaped: Shaped, error: UpstreamRejected) -> bool:
        """Take note of what `error` says of a field; return whether asking again without it may go better.

        Only fields that the gateway added are given up, unless the deployment drops what its model cannot take.
        """
        field = error.param
        if error.code not in _REFUSALS or not field or field not in shaped.body or not _is_plain(field):
            return False
        if field in TOKEN_FIELDS:
            other = TOKEN_FIELDS[1 - TOKEN_FIELDS.index(field)]
            return error.code != "unsupported_value" and self._token_fields.setdefault(deployment.name, other) == other
        known = self._refused.setdefault(deployment.name, set())
        if field not in shaped.added and not (deployment.drop_params and field not in _NEEDED):
            return False
        if len(known) < _MOST_REMEMBERED:
            known.add(field)
        return field in known


_NEEDED = frozenset({"input", "messages", "model", "prompt", "stream", "stream_options"})


def _is_plain(field: str) -> bool:
    """Tell whether a name that the caller may have chosen can be written in a header."""
    return field.isascii() and field.isidentifier()


def shape(call: Call, deployment: Deployment, refusals: Refusals) -> Shaped:
    """Return what `deployment` is to be sent for `call`; the call itself stays as it is."""
    learned = refusals.fields(deployment.name)
    settings = deployment.settings[call.endpoint]
    if call.style and call.endpoint in _STYLED:
        refused = {*deployment.refuses, *learned}
        style = STYLES[call.style]
        settings = {**settings, **{name: value for name, value in style.items() if name not in refused}}
    if learned:
        settings = {name: value for name, value in settings.items() if name not in learned}
    shaped = Shaped({**settings, **call.body})
    if settings:
        _fill_in(shaped, settings, call.body)
    if deployment.drop_params:
        _drop(shaped, {*deployment.refuses, *learned})
    if call.endpoint in _STYLED and ("max_tokens" in shaped.body or "max_completion_tokens" in shaped.body):
        _name_tokens(shaped, call, deployment, refusals.token_field(deployment.name) or deployment.token_field)
    return shaped


def _fill_in(shaped: Shaped, settings: Any, body: dict[str, Any]) -> None:
    """Let settings also stand for what the caller sent as null: clients write out fields that nobody set."""
    sent = [name for name in TOKEN_FIELDS if body.get(name) is not None]
    added = []
    for name in settings:
        if body.get(name) is None:
            if sent and name in TOKEN_FIELDS:
                shaped.body.pop(name)  # the caller said the same in the other words
                continue
            shaped.body[name] = settings[name]
            added.append(name)
    shaped.added = added


def _drop(shaped: Shaped, refused: Collection[str]) -> None:
    dropped = [name for name in shaped.body if name in refused and name not in _NEEDED]
    for name in dropped:
        del shaped.body[name]
    shaped.dropped = tuple(name for name in dropped if name not in shaped.added)


def _name_tokens(shaped: Shaped, call: Call, deployment: Deployment, field: str | None) -> None:
    """Say the longest answer in the upstream's word, and no longer than its model can make it."""
    body = shaped.body
    given = [name for name in TOKEN_FIELDS if body.get(name) is not None]
    if not given:
        return
    name = given[0]
    value = body[name]
    if deployment.max_output_tokens is not None:
        value = min(value, deployment.max_output_tokens)
    if call.endpoint == "completions":
        field = "max_tokens"
    if field is None or (field == name and len(given) == 1):
        body[name] = value
        return
    for old in TOKEN_FIELDS:
        body.pop(old, None)
    body[field] = value
