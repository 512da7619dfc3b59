"""One call that a deployment is answering: what its end says of the deployment, and the reply that the caller opens."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.call import Attempt, Call
from gateway.errors import GatewayError, ShuttingDown, UpstreamTimeout, UpstreamWrongSize
from gateway.providers import Reply
from gateway.routing.health import Health
from gateway.routing.table import Deployment

# A caller that left has waited in vain if it did so for as long as this, and four times what answers usually take.
_PATIENCE_SECONDS, _TIMES_SLOWER = 5.0, 4.0
_UNKNOWN_SECONDS = 15.0  # what an answer usually takes where nothing is known

Opened = AbstractAsyncContextManager[Reply]


class Running:
    """One call that a deployment is answering: the reply's `async with`, and what its end says of the deployment.

    A stream that breaks after its first event has failed, however good its status was.
    """

    __slots__ = ("_attempt", "_call", "_condition", "_deployment", "_health", "_is_over", "_probes", "_reply")

    def __init__(self, health: Health, deployment: Deployment, attempt: Attempt, call: Call) -> None:
        self._call = call
        self._health = health
        self._deployment = deployment
        self._attempt = attempt
        self._condition, self._probes = health.begin(deployment)
        self._reply: Reply | None = None
        self._is_over = False

    def begin_reply(self, reply: Reply) -> Opened:
        """Return what the caller is to open: a plain reply is whole, of a stream the first event has arrived."""
        condition, stream = self._condition, self._call.stream
        pace = condition.stream_pace if stream else condition.plain_pace
        pace.note(self._attempt.ended - self._attempt.started, self._attempt.ended)
        if not stream:
            condition.note_well(self._call.caller.name, self._attempt.ended)
            self.end(None)
            return reply
        if self._probes:  # alive: others need not wait for this stream's end
            self._probes = False
            condition.release_probe()
            self._health.note_answer(condition, self._attempt.started)
        condition.note_well(self._call.caller.name, self._attempt.ended)
        self._reply = reply
        return self

    def end(self, error: GatewayError | None) -> None:
        """Count the call as over, well or with `error`."""
        self.leave()
        if isinstance(error, UpstreamWrongSize):
            return  # it is as well as it was set up to be
        began = self._attempt.started
        if error is None:
            self._health.note_answer(self._condition, began)
        else:
            self._health.note_failure(self._deployment, error, began, self._call.caller.name)

    def give_up(self) -> None:
        """Count the call as left before there was an answer: after a long wait that is the deployment's failure.

        Callers are often less patient than our own limits, so those alone would never show that somebody hangs.
        """
        pace = self._condition.stream_pace if self._call.stream else self._condition.plain_pace
        usual = pace.average if pace.is_known(self._attempt.ended) else _UNKNOWN_SECONDS
        waited = self._attempt.ended - self._attempt.started
        if waited >= max(_PATIENCE_SECONDS, _TIMES_SLOWER * usual):
            self.end(UpstreamTimeout("The caller left after waiting in vain."))
        else:
            self.leave()

    def leave(self) -> None:
        """Count the call as over without a word on the deployment."""
        self._is_over = True
        self._condition.end(probed=self._probes)

    async def __aenter__(self) -> Reply:
        assert self._reply is not None  # noqa: S101  only what has a reply is handed out
        return await self._reply.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._reply is not None:
                await self._reply.__aexit__(kind, error, trace)
        finally:
            if not self._is_over:
                self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        # Taken from there, for its traceback leads back to the record: nothing is left to the garbage collector.
        broke, self._attempt.error = self._attempt.error, None
        assert broke is None or isinstance(broke, GatewayError)  # noqa: S101  that tree is no part of what a call is
        if error is not None or isinstance(broke, ShuttingDown):
            self.leave()  # the caller's end or ours
        else:
            self.end(broke)
