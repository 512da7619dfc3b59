"""The OpenAI wire over aiohttp: parse nothing twice, patch the fields we own, relay the answer's bytes.

Which deployment is asked, and what happens when it fails, is decided in `routing/`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.call import Endpoint
from gateway.errors import (
    ContextLengthExceeded,
    EndpointNotServed,
    GatewayError,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRejected,
)
from gateway.providers.base import Exchange, PlainReply, Reply, account_of
from gateway.providers.classify import as_error_object, classify, classify_object
from gateway.providers.crossed import to_events, to_whole
from gateway.providers.foreign import translate, translate_answer
from gateway.providers.images import ImageStream
from gateway.providers.manners import ENCODING_FIELD, USAGE_FIELD, Manners, name_added
from gateway.providers.plain import make_reply
from gateway.providers.pool import Lifeline, Pool, keep_tcp
from gateway.providers.stream import HOLD_SECONDS, StreamReply
from gateway.providers.sweeper import Sweeper, TimeLimit
from gateway.providers.whole import MAX_ERROR_BYTES, most_bytes, read_beginning, read_object, read_reply
from gateway.wire import ImageScanner, SseScanner, count_inputs, dump, error_in, read_usage

_PARAMS: dict[Endpoint, str] = {
    "chat/completions": "messages",
    "completions": "prompt",
    "embeddings": "input",
    "images/generations": "prompt",
    "rerank": "documents",
}
_CROSSED = frozenset({"chat/completions", "completions"})
_NOT_THERE = frozenset({404, 405})  # most servers of this wire do not rank
_SLICE_BYTES = 64 * 1024
_SAYS_NOTHING_ALONE = frozenset({400, 404, 413, 422})  # what is wrong with a request is in the text
ERROR_TEXT_SECONDS = 1.0  # the words behind an error's status come with it or hardly at all
_MOST_MODELS = 1000  # callers may spell out models


class OpenAIWire:
    """One upstream that speaks the OpenAI wire; a model that refuses what its `manners` promise is asked without."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key: str = "",
        headers: Mapping[str, str] | None = None,
        connect: Callable[[], aiohttp.BaseConnector] = keep_tcp,
        manners: Manners = Manners(),  # noqa: B008  frozen
    ) -> None:
        self.name = name
        self.account = account_of(str(URL(base_url).origin()), api_key)
        self._secrets = (api_key, *(headers or {}).values())
        self._manners = manners
        self._refused: dict[str, set[str]] = {USAGE_FIELD: set(), ENCODING_FIELD: set()}  # by which models
        self._taken: dict[str, set[str]] = {USAGE_FIELD: set(), ENCODING_FIELD: set()}
        base = base_url.rstrip("/")
        self._urls = {path: URL(f"{base}/{path}") for path in _PARAMS}
        self._sweeper = Sweeper()
        sent = CIMultiDict(
            {
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "gateway",
                **(headers or {}),
            }
        )
        if api_key:
            sent["Authorization"] = f"Bearer {api_key}"
        self._pool = Pool(sent, connect)

    async def send(self, exchange: Exchange) -> Reply:
        added = self._added(exchange)
        if not added:
            return await self._ask(exchange, self._patch(exchange))
        try:
            reply = await self._ask(exchange, self._patch(exchange, added))
        except UpstreamRejected as error:
            if exchange.model in self._taken[added] or not self.may_refuse(added, error, exchange):
                raise
        else:
            if exchange.model not in self._taken[added]:
                _remember(self._taken[added], exchange.model)
            return reply
        reply = await self._ask(exchange, self._patch(exchange))
        _remember(self._refused[added], exchange.model)  # only now: what was refused may have been something else
        return reply

    async def _ask(self, exchange: Exchange, body: bytes) -> Reply:
        patience = exchange.patience
        response: aiohttp.ClientResponse | None = None
        # The first event of a stream of images may be the whole image, which takes as long as a plain one.
        tells_early = exchange.stream and exchange.endpoint != "images/generations"
        begin_seconds = patience.begin_seconds(stream=tells_early)
        limit = TimeLimit(self._sweeper, min(begin_seconds, patience.total_seconds))
        try:
            with limit:
                response = await self._pool.post(self._urls[exchange.endpoint], body, patience.connect_seconds)
                if response.status != 200:
                    raise await self._failure(response, exchange, limit)
                if exchange.stream and _is_stream(response):
                    return await self._begin_stream(response, exchange, limit)
                if response.content.is_eof():
                    return await self._read_plain(response, exchange)
                if not exchange.stream:
                    limit.stretch(patience.total_seconds)
                with self._sweeper.watching(Lifeline(response)):
                    return await self._read_plain(response, exchange)
        except BaseException as error:
            if response is not None:
                response.close()
            make = translate if response is None else translate_answer
            translated = make(error, limit.seconds)
            if translated is error:
                raise
            raise translated from error

    def make_scanner(self, exchange: Exchange) -> SseScanner:
        """Return what reads this exchange's stream; a dialect of the wire has its own."""
        if exchange.endpoint == "images/generations":
            return ImageScanner(images=exchange.body.get("n") or 1)
        prompts = count_inputs(exchange.body.get("prompt")) if exchange.endpoint == "completions" else 1
        return SseScanner(keep_usage=exchange.wants_usage, choices=(exchange.body.get("n") or 1) * prompts)

    async def is_ready(self, model: str) -> bool:
        return True  # a hosted upstream is taken at its word until an attempt fails

    async def close(self) -> None:
        await self._pool.close()

    def _added(self, exchange: Exchange) -> str:
        """Return the field that is sent though the caller did not send it, "" if there is none.

        Streams of images tell their usage unasked.
        """
        if exchange.endpoint == "embeddings":
            name, is_added = ENCODING_FIELD, self._manners.embeds_base64
        else:
            is_silent = exchange.stream and not exchange.wants_usage and exchange.endpoint != "images/generations"
            name, is_added = USAGE_FIELD, is_silent and self._manners.streams_usage
        return name if is_added and exchange.model not in self._refused[name] else ""

    def may_refuse(self, added: str, error: UpstreamRejected, exchange: Exchange) -> bool:
        """Tell whether the refusal is about the field that was `added`."""
        if added == ENCODING_FIELD:
            return error.param == ENCODING_FIELD
        return (error.param or "").partition(".")[0] == added and not exchange.body.get(added)

    def _patch(self, exchange: Exchange, added: str = "") -> bytes:
        patched = {**exchange.body, "model": exchange.model}
        if added == USAGE_FIELD:
            patched[USAGE_FIELD] = {**(exchange.body.get(USAGE_FIELD) or {}), "include_usage": True}
        elif not self._manners.streams_usage and exchange.endpoint != "images/generations":
            patched.pop(USAGE_FIELD, None)
        if added == ENCODING_FIELD:
            patched[ENCODING_FIELD] = "base64"
        elif exchange.endpoint == "embeddings":
            patched.pop(ENCODING_FIELD, None)  # digits are what all upstreams give by themselves
        return dump(patched)

    async def _begin_stream(
        self, response: aiohttp.ClientResponse, exchange: Exchange, limit: TimeLimit
    ) -> StreamReply:
        kind = ImageStream if exchange.endpoint == "images/generations" else StreamReply
        stream = kind(
            response,
            self.make_scanner(exchange),
            exchange.patience,
            self._sweeper,
            self._secrets,
            limit.began,
        )
        await stream.wait_for_first_event()
        if not stream.is_complete:
            limit.extend(2 * HOLD_SECONDS)  # it has begun in time
            await stream.wait_for_content()
        return stream

    async def _read_plain(self, response: aiohttp.ClientResponse, exchange: Exchange) -> PlainReply:
        body, payload = await self._read_payload(response, exchange)
        if payload is not None and (error := error_in(payload)):
            raise classify_object(as_error_object(error), secrets=self._secrets)
        if exchange.stream:
            return _as_stream(payload or {}, exchange)
        if payload is None:
            raise UpstreamProtocolError("The upstream's answer is not a JSON object.", code="upstream_bad_response")
        return make_reply(payload, body, exchange)

    async def _read_payload(
        self, response: aiohttp.ClientResponse, exchange: Exchange
    ) -> tuple[bytes, dict[str, Any] | None]:
        limit = most_bytes(exchange)
        if exchange.stream and "json" not in response.headers.get("Content-Type", "").lower():
            limit = MAX_ERROR_BYTES  # a page, but some put their errors under any type
        body = await read_reply(response, limit)
        payload = read_object(body)
        if payload is None and exchange.body.get("stream") and not exchange.stream and _is_stream(response):
            body = await self._tidy_whole(body, exchange)
            payload = read_object(body)
        if payload is None and exchange.endpoint in _CROSSED and _is_stream(response):
            payload = to_whole(body)
            body = b"" if payload is None else dump(payload)
        return body, payload

    async def _tidy_whole(self, body: bytes, exchange: Exchange) -> bytes:
        """Return a stream that a dialect asked for where a plain answer lacks something, as its scanner tells it."""
        scanner = self.make_scanner(exchange)
        pieces = []
        for begin in range(0, len(body), _SLICE_BYTES):
            pieces.append(scanner.feed(body[begin : begin + _SLICE_BYTES]))
            await asyncio.sleep(0)  # other calls are served meanwhile
        pieces.append(scanner.end())
        return dump({"error": scanner.error}) if scanner.error else b"".join(pieces)

    async def _failure(self, response: aiohttp.ClientResponse, exchange: Exchange, limit: TimeLimit) -> GatewayError:
        if 300 <= response.status < 400:  # following it would carry our key to a host the configuration did not name
            response.close()
            return UpstreamProtocolError(
                "The upstream answered with a redirect, which is never followed.",
                code="upstream_redirect",
                upstream_status=response.status,
            )
        seconds = limit.began + exchange.patience.total_seconds - time.monotonic()
        if response.status not in _SAYS_NOTHING_ALONE:
            seconds = min(seconds, limit.seconds, ERROR_TEXT_SECONDS)
            limit.extend(2 * seconds)  # it has answered in time
        body = await self._read_error(response, seconds)
        error = classify(response.status, response.headers, body, self._secrets, exchange.model)
        endpoint = exchange.endpoint
        if endpoint == "rerank" and response.status in _NOT_THERE and not isinstance(error, UpstreamModelMissing):
            return EndpointNotServed(endpoint)
        if isinstance(error, UpstreamRejected) and error.param is None:
            # Many servers name the field in a sentence or a list only.
            error.param = name_added(body)
        if isinstance(error, ContextLengthExceeded) and error.param is None:
            error.param = _PARAMS[exchange.endpoint]
            if exchange.endpoint != "chat/completions":
                error.message = error.message.replace("your messages", "your input").replace(
                    "the messages", "the input"
                )
        return error

    async def _read_error(self, response: aiohttp.ClientResponse, seconds: float) -> bytes:
        """Return the text of an error answer, what there is of it where it does not come: the head told the most."""
        pieces: list[bytes] = []
        try:
            with TimeLimit(self._sweeper, seconds):
                return await read_beginning(response, pieces=pieces)
        except (TimeoutError, aiohttp.ClientError, OSError):
            response.close()
            return b"".join(pieces)


def _remember(models: set[str], model: str) -> None:
    if len(models) < _MOST_MODELS:
        models.add(model)


def _is_stream(response: aiohttp.ClientResponse) -> bool:
    return response.headers.get("Content-Type", "").lower().startswith("text/event-stream")


def _as_stream(payload: dict[str, Any], exchange: Exchange) -> PlainReply:
    events = to_events(payload, wants_usage=exchange.wants_usage) if exchange.endpoint in _CROSSED else None
    if events is None:
        raise UpstreamProtocolError("The upstream answered a stream request with something else than events.")
    return PlainReply(events, read_usage(payload.get("usage")))
