"""The official client, against the gateway: what it makes of answers, streams, embeddings, models and errors."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from struct import pack

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from tests.support.app import RunningGateway, make_config, running
from tests.support.embedding import expected
from tests.support.upstream import (
    Chat,
    Cut,
    Embeddings,
    ErrorEvent,
    Gate,
    Held,
    ScriptedUpstream,
    Status,
    ToolCall,
    make_vector,
)

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
PROMPT_SECONDS = 1.0


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with gateway.client() as made:
        yield made


async def test_a_chat_completion_is_read(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model="small", messages=MESSAGES)

    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 21
    assert completion._request_id is not None


async def test_strict_validation_finds_nothing_wrong(gateway: RunningGateway) -> None:
    async with gateway.client(_strict_response_validation=True) as client:
        await client.chat.completions.create(model="small", messages=MESSAGES, n=2)
        async for _ in await client.chat.completions.create(model="small", messages=MESSAGES, stream=True):
            pass
        await client.completions.create(model="small", prompt="Once")
        await client.embeddings.create(model="embedding", input="a", encoding_format="float")
        await client.models.list()


async def test_a_streams_chunks_are_read(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="small", messages=MESSAGES, stream=True)

    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there"
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_streams_usage_is_read_when_asked_for(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="small", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )

    *_, last = [chunk async for chunk in stream]

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 12


async def test_the_stream_helper_puts_the_answer_together(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    calls = (ToolCall("look", '{"at": "the sea"}'), ToolCall("go", '{"to": "Rome"}', id="call_2"))
    upstream.script(Chat(("One ", "moment."), tool_calls=calls))

    async with client.chat.completions.stream(model="small", messages=MESSAGES) as stream:
        final = await stream.get_final_completion()

    message = final.choices[0].message
    assert (message.role, message.content) == ("assistant", "One moment.")
    assert message.tool_calls is not None
    assert [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("call_1", "look", '{"at": "the sea"}'),
        ("call_2", "go", '{"to": "Rome"}'),
    ]


async def test_the_stream_helper_keeps_several_choices_apart(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="small", messages=MESSAGES, n=2) as stream:
        final = await stream.get_final_completion()

    assert [choice.message.content for choice in final.choices] == ["Hello there", "Hello there #1"]
    assert [choice.finish_reason for choice in final.choices] == ["stop", "stop"]


async def test_a_parsed_answer_is_asked_for_and_read(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    class City(BaseModel):
        name: str

    upstream.script(Chat('{"name": "Rome"}'))

    completion = await client.chat.completions.parse(model="small", messages=MESSAGES, response_format=City)

    assert completion.choices[0].message.parsed == City(name="Rome")
    assert upstream.requests[0].json["response_format"]["json_schema"]["strict"] is True


async def test_extra_fields_reach_the_upstream(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    await client.chat.completions.create(model="small", messages=MESSAGES, extra_body={"min_p": 0.1, "grammar": "x"})

    assert upstream.requests[0].json["min_p"] == 0.1
    assert upstream.requests[0].json["grammar"] == "x"


async def test_a_completion_is_read(client: AsyncOpenAI) -> None:
    completion = await client.completions.create(model="small", prompt="Once")

    assert completion.choices[0].text == "Hello there"


@pytest.mark.parametrize("form", ["default", "float", "base64"])
async def test_embeddings_are_the_same_numbers_in_every_form(client: AsyncOpenAI, form: str) -> None:
    options = {} if form == "default" else {"encoding_format": form}

    answer = await client.embeddings.create(model="embedding", input=["one", "two"], **options)  # type: ignore[arg-type]  # a str

    assert [isinstance(item.embedding, str) for item in answer.data] == [form == "base64"] * 2
    raw = [b64decode(told) if isinstance(told := item.embedding, str) else pack("<8f", *told) for item in answer.data]
    assert raw == expected("one", "two")


async def test_an_upstream_that_knows_no_base64_still_serves_the_default(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script(Embeddings(force="float"))

    answer = await client.embeddings.create(model="embedding", input="one")

    assert answer.data[0].embedding == make_vector("one")


async def test_models_are_listed_and_retrieved(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    one = await client.models.retrieve("vendor/with-slash:7b")

    assert listed == ["small", "embedding", "vendor/with-slash:7b", "auto"]
    assert one.id == "vendor/with-slash:7b"


async def test_the_raw_answer_has_its_headers(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="small", messages=MESSAGES)

    assert raw.headers["x-gateway-deployment"] == "up0/model"
    assert raw.headers["x-request-id"] == raw.request_id


ERRORS = [
    (Status(400, message="no", code="invalid_value", param="top_p"), openai.BadRequestError, "invalid_value", "top_p"),
    (Status(401), openai.InternalServerError, "upstream_auth_failed", None),
    (Status(422, code="odd"), openai.UnprocessableEntityError, "odd", None),
    (Status(429, retry_after="1"), openai.RateLimitError, "upstream_rate_limited", None),
    (Status(500), openai.InternalServerError, "upstream_error", None),
    (Status(503), openai.InternalServerError, "server_is_overloaded", None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "kind", "code", "param"), ERRORS, ids=lambda value: getattr(value, "status", None)
)
async def test_an_upstreams_failure_is_the_clients_error_class(
    client: AsyncOpenAI,
    upstream: ScriptedUpstream,
    behaviour: Status,
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
    stream: bool,
) -> None:
    upstream.script(behaviour)

    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="small", messages=MESSAGES, stream=stream)

    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id is not None


async def test_our_own_refusals_are_the_clients_error_classes(upstream: ScriptedUpstream) -> None:
    keys = [{"name": "app", "key": "sk-good-0123456789", "models": ["small"]}]
    async with (
        running(make_config(upstream, aliases=("small", "large"), keys=keys)) as gateway,
        gateway.client("sk-wrong") as wrong,
        gateway.client("sk-good-0123456789") as good,
    ):
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided") as refused:
            await wrong.chat.completions.create(model="small", messages=MESSAGES)
        with pytest.raises(openai.PermissionDeniedError):
            await good.chat.completions.create(model="large", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError) as unknown:
            await good.chat.completions.create(model="nobody", messages=MESSAGES)
        with pytest.raises(openai.BadRequestError) as bad:
            await good.chat.completions.create(model="small", messages=[])

    assert refused.value.code == "invalid_api_key"
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert bad.value.param == "messages"


@pytest.mark.parametrize("behaviour", [ErrorEvent(3), Cut(Chat(stream=True), 3)], ids=["error event", "cut"])
async def test_a_stream_that_breaks_raises_in_the_client(
    client: AsyncOpenAI, upstream: ScriptedUpstream, behaviour: ErrorEvent | Cut
) -> None:
    upstream.script(behaviour)
    received = 0

    stream = await client.chat.completions.create(model="small", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError):
        async for _ in stream:
            received += 1

    assert received > 0


async def test_the_clients_own_retries_succeed_after_a_rate_limit(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Status(429, headers={"retry-after-ms": "50"}))

    async with gateway.client(max_retries=1) as client:
        completion = await client.chat.completions.create(model="small", messages=MESSAGES)

    assert completion.choices[0].message.content == "Hello there"
    assert len(upstream.requests) == 2


async def test_closing_a_stream_in_the_client_closes_the_upstream(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script(Held(Chat(), Gate(), before=2))
    stream = await client.chat.completions.create(model="small", messages=MESSAGES, stream=True)
    await anext(aiter(stream))

    await stream.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_cancelling_a_call_in_the_client_closes_the_upstream(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Held(Chat(), gate, before=0))
    asking = asyncio.create_task(client.chat.completions.create(model="small", messages=MESSAGES))
    await gate.reached()

    asking.cancel()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_many_clients_at_once_are_served(gateway: RunningGateway) -> None:
    async with gateway.client() as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="small", messages=MESSAGES) for _ in range(50))
        )

    assert len({answer.id for answer in answers}) == 50
