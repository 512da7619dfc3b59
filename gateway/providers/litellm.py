"""Upstreams with a wire of their own, spoken to through the library litellm: one call in, OpenAI's shapes out.

Which deployment is asked, and what happens when it fails, is decided in `routing/`; so litellm never tries twice.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from gateway.errors import GatewayError, UpstreamTimeout, UpstreamUnavailable
from gateway.providers.availability import why_unavailable
from gateway.providers.base import Exchange, PlainReply, Reply, account_of
from gateway.providers.litellm_chunks import Chunks
from gateway.providers.litellm_endings import Endings
from gateway.providers.litellm_engine import (
    load,
    mapped_fields,
    open_client,
    open_thread_client,
    quiet_records,
    thinking_of,
)
from gateway.providers.litellm_environment import account_variables, unseen
from gateway.providers.litellm_errors import explain
from gateway.providers.litellm_fields import fit_budget, settle, wire_of
from gateway.providers.litellm_images import fields_taken, fit, image_reply
from gateway.providers.litellm_line import Line, Transport
from gateway.providers.litellm_opening import lend
from gateway.providers.litellm_parts import refuse_sound, unnumber
from gateway.providers.litellm_reply import chat_reply, embedding_reply
from gateway.providers.litellm_request import SENT_FIELDS, keywords, streams, unmapped
from gateway.providers.litellm_stream import LiteLLMStream, Source
from gateway.providers.litellm_threads import Threads, ThreadTransport
from gateway.providers.settings import LiteLLMSettings
from gateway.providers.sweeper import Sweeper, TimeLimit

# Those that take our connections, and whose streams are in litellm's own form.
_OVER_OUR_LINES = frozenset({"anthropic", "bedrock", "gemini", "vertex_ai"})
# Those whose streams are the pieces of OpenAI's own client, which have all that litellm's form has.
_OPENAI = frozenset({"azure", "openai"})
# Those of which litellm says that every piece is the last, and to which it adds a temperature of its own.
_GOOGLE = frozenset({"gemini", "vertex_ai"})
# Those that litellm asks for images in a thread, which waits there for the answer.
_IMAGES_BLOCK = _GOOGLE | {
    "aiml",
    "dashscope",
    "edenai",
    "fal_ai",
    "openrouter",
    "qwen_ai_platform",
    "qwencloud",
    "recraft",
    "runwayml",
    "stability",
}
# Where litellm sends the key of a provider of which it knows no address.
_FALLBACKS = frozenset({"", "api.openai.com"})
_MOST_MODELS = 1000  # callers may spell out models
_FUNCTIONS = {
    "chat/completions": "acompletion",
    "embeddings": "aembedding",
    "images/generations": "aimage_generation",
}


class LiteLLM:
    """The provider of `kind: litellm`: one upstream and its credentials."""

    def __init__(self, name: str, settings: LiteLLMSettings) -> None:
        self.name = name
        self._settings = settings
        self._secrets = tuple(
            secret.get_secret_value()
            for secret in (settings.api_key, *settings.headers.values(), *settings.options.values())
        )
        self.account = account_of(f"{settings.prefix} {settings.base_url}", *self._secrets)
        self._account_variables = account_variables(settings)
        is_told = settings.base_url is not None or settings.prefix == "openai"
        self._foreign = frozenset() if is_told else _FALLBACKS
        self._is_over_our_lines = settings.prefix in _OVER_OUR_LINES
        self._is_direct = self._is_over_our_lines or settings.prefix in _OPENAI
        self._sweeper = Sweeper()
        self._transport = Transport()
        self._threads = Threads()
        self._client: Any = None
        self._thread_client: Any = None
        self._record: Any = None
        self._mapped: dict[tuple[str, str], frozenset[str]] = {}  # by model and endpoint
        self._loading: asyncio.Task[Any] | None = None

    async def prepare(self) -> None:
        """Import litellm without holding up the event loop; calls that come before it is done wait for it."""
        with suppress(UpstreamUnavailable):  # each call says it again, to somebody who can read it
            await self._library()

    async def send(self, exchange: Exchange) -> Reply:
        made = keywords(exchange, self._settings)
        is_google = self._settings.prefix in _GOOGLE
        patience = exchange.patience
        is_stream = streams(exchange)
        limit = TimeLimit(self._sweeper, patience.begin_seconds(stream=is_stream))

        def go_on() -> None:
            if not is_stream:
                limit.extend(patience.total_seconds)

        line = Line(
            patience.connect_seconds,
            is_stream=is_stream,
            begun=go_on,
            unsaid=("temperature",) if is_google and "temperature" not in made else (),
            endings=Endings() if is_stream and (is_google or not self._is_direct) else None,
            foreign=self._foreign,
        )
        try:
            with limit:
                return await line.wait_for(self._ask(made, exchange, line))
        except BaseException as error:
            line.close()  # also when the caller left: the upstream is not to work on
            if type(error) is TimeoutError and line.failure is None:  # the limit's own
                raise UpstreamTimeout(f"The upstream did not answer within {limit.seconds:g} seconds.") from None
            if not isinstance(error, Exception):
                raise
            if isinstance(line.failure, GatewayError):
                raise line.failure from None
            raise explain(error, line, exchange.endpoint, self._secrets) from None

    async def _ask(self, made: dict[str, Any], exchange: Exchange, line: Line) -> Reply:
        library = await self._library()
        with unseen(self._account_variables):
            self._complete(made, library, exchange)
            answer = await self._call(library, made, exchange, line)
            if line.is_stream:
                return await self._begin_stream(answer, exchange, line)
            return _read(answer, exchange, signs=self._signs(exchange))

    def _complete(self, made: dict[str, Any], library: Any, exchange: Exchange) -> None:
        known = (exchange.model, exchange.endpoint)
        mapped = self._mapped.get(known)
        if mapped is None:
            if exchange.endpoint == "images/generations":
                mapped = fields_taken(library, self._settings.prefix, exchange.model)
            else:
                mapped = mapped_fields(library, self._settings.prefix, *known)
            if len(self._mapped) < _MOST_MODELS:
                self._mapped[known] = mapped
        if exchange.endpoint == "images/generations":
            fit(made, mapped)
        elif exchange.endpoint == "chat/completions":
            self._settle(made, library, exchange, mapped)
        made["litellm_logging_obj"] = self._record(made, _FUNCTIONS[exchange.endpoint])
        made["allowed_openai_params"] = unmapped(made, exchange.endpoint, mapped)
        if self._blocks(exchange):
            made["client"] = self._thread_client
        elif self._is_over_our_lines:
            made["client"] = self._client

    def _settle(self, made: dict[str, Any], library: Any, exchange: Exchange, mapped: frozenset[str]) -> None:
        prefix, model = self._settings.prefix, exchange.model
        wire = wire_of(prefix, model)
        settle(made, wire, SENT_FIELDS - exchange.allowed_extra, mapped)
        unnumber(made["messages"])
        if wire == "gemini" and exchange.stream:
            refuse_sound(made)
        if "reasoning_effort" in made and "claude" in model:
            thinking = thinking_of(library, made["reasoning_effort"], prefix, model)
            fit_budget(made, thinking, exchange.max_output_tokens)

    async def _call(self, library: Any, made: dict[str, Any], exchange: Exchange, line: Line) -> Any:
        if self._blocks(exchange):
            line.is_cancellable = True  # these threads take care of what they made for nobody
            return await self._threads.run(library.image_generation, aimg_generation=True, **made)
        return await getattr(library, _FUNCTIONS[exchange.endpoint])(**made)

    def _signs(self, exchange: Exchange) -> bool:
        """Tell whether the upstream continues the thoughts that it signed: litellm has no way to send Google's back."""
        return wire_of(self._settings.prefix, exchange.model) != "gemini"

    def _blocks(self, exchange: Exchange) -> bool:
        return exchange.endpoint == "images/generations" and self._settings.prefix in _IMAGES_BLOCK

    async def is_ready(self, model: str) -> bool:
        return not why_unavailable(
            self._settings.prefix
        )  # a hosted upstream is taken at its word until an attempt fails

    async def close(self) -> None:
        if self._loading is not None and not self._loading.done():
            await asyncio.wait([self._loading])  # a thread cannot be stopped in the middle of an import
        await self._threads.close()
        await self._transport.close()

    async def _begin_stream(self, wrapper: Any, exchange: Exchange, line: Line) -> LiteLLMStream:
        source = Source(wrapper, line, is_direct=self._is_direct)
        chunks = Chunks(exchange.model, wants_usage=exchange.wants_usage, signs=self._signs(exchange))
        stream = LiteLLMStream(source, chunks, line, exchange.patience, self._sweeper, self._secrets)
        try:
            await source.open()
            await stream.wait_for_first_event()
        except BaseException:
            await source.close()
            raise
        return stream

    async def _library(self) -> Any:
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(load, self._settings.prefix))
        try:
            library = await asyncio.shield(self._loading)
        except ImportError as error:
            advice = why_unavailable() or f"it cannot be imported ({type(error).__name__})"
            raise UpstreamUnavailable(f"litellm is missing: {advice}", code="provider_not_installed") from None
        if self._client is None:
            with unseen():
                self._client = open_client()
                self._thread_client = open_thread_client()
                self._record = quiet_records()
        lend(self._transport, ThreadTransport(self._transport, asyncio.get_running_loop()))
        return library


def _read(answer: Any, exchange: Exchange, *, signs: bool) -> PlainReply:
    if exchange.endpoint == "embeddings":
        return embedding_reply(answer, exchange)
    if exchange.endpoint == "images/generations":
        return image_reply(answer, exchange)
    return chat_reply(answer, exchange, signs=signs)
