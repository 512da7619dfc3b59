"""What one deployment is sent: the caller's fields, the settings that fill in the rest, and what its model cannot take.

The caller's value wins, then the style's, then the deployment's, then the preset's. Nothing is sent or tried here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.call import Call
from gateway.errors import UpstreamRejected
from gateway.routing.styles import STYLES
from gateway.routing.table import Deployment
from gateway.wire import CHAT_FIELDS

TOKEN_FIELDS = ("max_completion_tokens", "max_tokens")
_STYLED = ("chat/completions", "completions")
_REFUSALS = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
# Without these a request would mean something else.
_NEEDED = frozenset(
    [
        "functions",
        "function_call",
        "input",
        "messages",
        "model",
        "prompt",
        "response_format",
        "stream",
        "stream_options",
        "tool_choice",
        "tools",
    ]
)
# What models may lack, of OpenAI's fields: only these are remembered, for a caller may make up any other.
_LACKED = CHAT_FIELDS - _NEEDED - set(TOKEN_FIELDS)
# These are in nearly every request, and no field is refused for them.
_HARMLESS = frozenset(
    ["input", "messages", "metadata", "model", "prompt", "stream", "stream_options", "user", *TOKEN_FIELDS]
)
# Of a caller's own making there may be any number, so they count as one field of this name, which none can have.
_MADE_UP = ""
_MOST_DEPLOYMENTS = 1000  # callers may spell out models, and so make up deployments


@dataclass(slots=True)
class Learnt:
    """What a deployment turned out to refuse, and what it calls the longest answer.

    `yields` are fields that it refuses beside any of certain others, by their names. `suspects` are fields that it
    refused beside all of certain others, of which nothing tells which one was meant, or whether any was. `extra` are
    fields beyond OpenAI's that are known by their names too.
    """

    extra: frozenset[str] = frozenset()
    refuses: set[str] = field(default_factory=set)
    yields: dict[str, set[str]] = field(default_factory=dict)
    suspects: dict[str, list[frozenset[str]]] = field(default_factory=dict)
    token_field: str | None = None

    def unwanted(self, body: Mapping[str, Any]) -> set[str]:
        """Return what is not to be added to a caller's `body`."""
        if not self.yields:
            return self.lacking(body)
        said = self.said(body)
        return self.lacking(body) | {name for name, others in self.yields.items() if not others.isdisjoint(said)}

    def lacking(self, body: Mapping[str, Any]) -> set[str]:
        """Return what is refused whoever adds it to `body`."""
        if not self.suspects:
            return self.refuses
        said = self.said(body)
        return self.refuses | {name for name, groups in self.suspects.items() if any(each <= said for each in groups)}

    def said(self, body: Mapping[str, Any]) -> set[str]:
        """Return the fields that a caller's `body` says; all that nobody knows count as one."""
        known = CHAT_FIELDS | _HARMLESS | self.extra
        return {name if name in known else _MADE_UP for name, value in body.items() if value is not None}

    def suspect(self, name: str, beside: frozenset[str]) -> None:
        """Note that `name` was refused `beside` other fields; with none of them there, it is refused whoever sends it.

        What was there each time is to blame. Groups of fields that share none are kept beside each other, for each may
        have a reason of its own, and nobody loses a field for what others send.
        """
        if not beside:
            self.suspects.pop(name, None)
            self.refuses.add(name)
            return
        groups = self.suspects.setdefault(name, [])
        for index, group in enumerate(groups):
            if group & beside:
                groups[index] = group & beside
                return
        groups.append(beside)


class Refusals:
    """Remembers what deployments refused."""

    def __init__(self) -> None:
        self._learnt: dict[str, Learnt] = {}

    def of(self, deployment: str) -> Learnt | None:
        return self._learnt.get(deployment)

    def learn(self, call: Call, deployment: Deployment, sent: Mapping[str, Any], error: UpstreamRejected) -> bool:
        """Take note of what `error` says of fields that were `sent`; return whether asking again may go better.

        Fields that the gateway added are given up. A caller's own is left out of this call if the deployment drops
        what its model cannot take, and of later ones if it is the field, not its value, that is not supported. Later
        calls lose no more than that: they must have the fields that were beside it, until it is refused with none of them.
        Of fields that are refused together one is left out, of later calls too if they have the others.
        """
        names = [name for name in error.fields or (error.param,) if name and name in sent and _is_plain(name)]
        if error.code not in _REFUSALS or not names:
            return False
        if names[0] in TOKEN_FIELDS:
            return error.code != "unsupported_value" and self._learn_word(call, deployment, names[0])
        ours = [name for name in names if call.body.get(name) is None]
        theirs = [name for name in names if name not in ours]
        if not ours:
            error.param = theirs[0]
        droppable = [name for name in theirs if name not in _NEEDED] if deployment.drop_params else []
        if error.clashes:
            return self._part(call, deployment, sent, names, droppable)
        lacked = _LACKED.intersection(droppable) if error.code == "unsupported_parameter" else ()
        for name in (*ours, *lacked):
            learnt = self._remember(deployment)
            learnt.suspect(name, _beside(call, learnt, sent, names))
        call.without |= set(droppable)
        return bool(ours or droppable)

    def _part(
        self, call: Call, deployment: Deployment, sent: Mapping[str, Any], names: list[str], droppable: list[str]
    ) -> bool:
        """Leave out one of the fields that cannot go together, rather ours than the caller's."""
        ours = [name for name in names if call.body.get(name) is None]
        theirs = [name for name in names if name not in ours]
        if ours and theirs:
            learnt = self._remember(deployment)
            learnt.yields.setdefault(ours[0], set()).update(learnt.said(dict.fromkeys(theirs, True)))
        elif ours:
            learnt = self._remember(deployment)
            learnt.suspect(ours[0], _beside(call, learnt, sent, ours))
        else:
            call.without |= set(droppable[:1])
        return bool(ours or droppable)

    def _learn_word(self, call: Call, deployment: Deployment, refused: str) -> bool:
        learnt = self._remember(deployment)
        if call.endpoint == "completions" or learnt.token_field == refused:
            return False
        learnt.token_field = TOKEN_FIELDS[1 - TOKEN_FIELDS.index(refused)]
        return True

    def _remember(self, deployment: Deployment) -> Learnt:
        if deployment.name not in self._learnt and len(self._learnt) >= _MOST_DEPLOYMENTS:
            self._learnt.pop(next(iter(self._learnt)))  # the one that is known longest; it will be learnt again
        return self._learnt.setdefault(deployment.name, Learnt(extra=deployment.allowed_extra))


def _beside(call: Call, learnt: Learnt, sent: Mapping[str, Any], names: list[str]) -> frozenset[str]:
    """Return the caller's fields that may be why those of `names` were refused."""
    asked = {name: value for name, value in call.body.items() if name in sent and name not in names}
    return frozenset(learnt.said(asked) - _HARMLESS)


def _is_plain(name: str) -> bool:
    """Tell whether a name that the caller may have chosen can be written in a header."""
    return name.isascii() and name.isidentifier()


def shape(call: Call, deployment: Deployment, refusals: Refusals) -> dict[str, Any]:
    """Return the fields that `deployment` is to be sent for `call`, and record which of the caller's are left out."""
    learnt = refusals.of(deployment.name)
    unwanted = learnt.unwanted(call.body) if learnt is not None else set()
    settings = deployment.settings[call.endpoint]
    if call.style or unwanted:
        settings = _styled(call, deployment, settings, unwanted)
    body = {**settings, **call.body}
    if None in call.body.values():
        _fill_nulls(body, settings, unwanted)
    call.record.dropped = _drop(call, body, deployment, learnt) if deployment.drop_params else ()
    if "max_tokens" in body or "max_completion_tokens" in body:
        _name_tokens(body, call, deployment, learnt)
    return body


def _fill_nulls(body: dict[str, Any], settings: Mapping[str, Any], unwanted: set[str]) -> None:
    """Let settings also stand for what came as null, since clients write out fields that nobody set."""
    body.update({name: value for name, value in settings.items() if body[name] is None})
    for name in unwanted:
        if body.get(name) is None:
            body.pop(name, None)


def _styled(call: Call, deployment: Deployment, settings: Mapping[str, Any], unwanted: set[str]) -> Mapping[str, Any]:
    """Return the settings with the call's style laid over them, less what the model refuses."""
    style = STYLES[call.style] if call.style and call.endpoint in _STYLED else {}
    refused = deployment.refuses | unwanted
    return {name: value for name, value in {**settings, **style}.items() if name not in refused}


def _drop(call: Call, body: dict[str, Any], deployment: Deployment, learnt: Learnt | None) -> tuple[str, ...]:
    """Take out what the model refuses; return those fields that the caller sent."""
    refused = deployment.refuses | call.without | (learnt.lacking(call.body) if learnt is not None else set())
    dropped = [name for name in body if name in refused and name not in _NEEDED]
    for name in dropped:
        del body[name]
    return tuple(name for name in dropped if call.body.get(name) is not None)


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
