"""What every program with an OpenAI client does, done by openai 3.x; prints one JSON object, a result for each case.

Runs in an environment of its own (`make sdks`), so it imports nothing but the client. `tests/e2e/node/essentials.mjs` does
the same cases in the same words; what the results must be is said once, in `tests/e2e/test_sdk_others.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import openai
from pydantic import BaseModel

MODEL = "small"
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
TOKENS = [7592, 2088]

Case = Callable[[openai.OpenAI], Any]


def chat(client: openai.OpenAI) -> Any:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=12)
    completion = raw.parse()
    choice = completion.choices[0]
    return {
        "object": completion.object,
        "role": choice.message.role,
        "content": choice.message.content,
        "finish_reason": choice.finish_reason,
        "prompt_tokens": completion.usage.prompt_tokens,
        "completion_tokens": completion.usage.completion_tokens,
        "header": raw.headers["x-request-id"],
        "request_id": completion._request_id,
        "deployment": raw.headers["x-gateway-deployment"],
    }


def stream(client: openai.OpenAI) -> Any:
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, stream=True))
    return {"chunks": [chunk.to_dict() for chunk in chunks]}


def stream_usage(client: openai.OpenAI) -> Any:
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, stream=True, stream_options=options)
    )
    return {"chunks": [chunk.to_dict() for chunk in chunks]}


def stream_helper(client: openai.OpenAI) -> Any:
    with client.chat.completions.stream(model=MODEL, messages=HELLO, temperature=0, stop=["."]) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    message = final.choices[0].message
    return {
        "deltas": "".join(deltas),
        "role": message.role,
        "content": message.content,
        "finish_reason": final.choices[0].finish_reason,
    }


class Answer(BaseModel):
    yes: bool
    reason: str


def json_schema(client: openai.OpenAI) -> Any:
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Is water wet? Give a reason of three words."}],
        response_format=Answer,
        max_tokens=200,
        temperature=0,
    )
    return completion.choices[0].message.parsed.model_dump()


def logprobs(client: openai.OpenAI) -> Any:
    completion = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=2
    )
    return [entry.to_dict() for entry in completion.choices[0].logprobs.content]


def several_choices(client: openai.OpenAI) -> Any:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=6, n=2)
    return [{"index": choice.index, "content": choice.message.content} for choice in completion.choices]


def legacy_completion(client: openai.OpenAI) -> Any:
    completion = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=6)
    return {"object": completion.object, "text": completion.choices[0].text}


def embeddings(client: openai.OpenAI) -> Any:
    inputs = ["a red apple", "the sea at night"]
    packed = client.embeddings.create(model="embedding", input=inputs)
    plain = client.embeddings.create(model="embedding", input=inputs, encoding_format="float")
    return {
        "packed": [item.embedding for item in packed.data],
        "plain": [item.embedding for item in plain.data],
        "indices": [item.index for item in packed.data],
        "prompt_tokens": packed.usage.prompt_tokens,
    }


def embeddings_of_tokens(client: openai.OpenAI) -> Any:
    one = client.embeddings.create(model="embedding", input=TOKENS)
    several = client.embeddings.create(model="embedding", input=[TOKENS, TOKENS[:1]])
    return {"one": [item.embedding for item in one.data], "several": [item.embedding for item in several.data]}


def models(client: openai.OpenAI) -> Any:
    names = [model.id for model in client.models.list()]
    return {"names": names, "one": client.models.retrieve("small").id}


def unknown_model(client: openai.OpenAI) -> Any:
    return failure(lambda: client.chat.completions.create(model="nowhere", messages=HELLO))


def unknown_model_in_list(client: openai.OpenAI) -> Any:
    return failure(lambda: client.models.retrieve("no/where at all"))


def bad_role(client: openai.OpenAI) -> Any:
    messages: Any = [{"role": "boss", "content": "Say hello."}]
    return failure(lambda: client.chat.completions.create(model=MODEL, messages=messages))


def over_the_window(client: openai.OpenAI) -> Any:
    messages: Any = [{"role": "user", "content": "word " * 20_000}]
    whole = {"x-gateway-truncation": "refuse"}
    return failure(lambda: client.chat.completions.create(model=MODEL, messages=messages, extra_headers=whole))


def left_early(client: openai.OpenAI) -> Any:
    endless: Any = {"ignore_eos": True}
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=4000, stream=True, extra_body=endless
    )
    seen = next(iter(stream)).object
    stream.close()
    return {"seen": seen, "next": chat(client)}


def together(client: openai.OpenAI) -> Any:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0) as several:
            asked = [several.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8) for _ in range(4)]
            return [completion.choices[0].message.content or "" for completion in await asyncio.gather(*asked)]

    return asyncio.run(ask())


def failure(ask: Callable[[], object]) -> Any:
    """Return how `ask` fails, as a program sees it."""
    try:
        ask()
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "type": error.type,
            "code": error.code,
            "param": error.param,
            "message": error.message,
            "request_id": error.request_id,
        }
    return None


CASES: tuple[Case, ...] = (
    chat,
    stream,
    stream_usage,
    stream_helper,
    json_schema,
    logprobs,
    several_choices,
    legacy_completion,
    embeddings,
    embeddings_of_tokens,
    models,
    unknown_model,
    unknown_model_in_list,
    bad_role,
    over_the_window,
    left_early,
    together,
)


def main(base_url: str) -> None:
    results: dict[str, Any] = {"version": {"value": openai.__version__}}
    with openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60) as client:
        for case in CASES:
            try:
                results[case.__name__] = {"value": case(client)}
            except Exception as error:  # noqa: BLE001  # the next cases are to be seen too
                results[case.__name__] = {"error": f"{type(error).__name__}: {error}"}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
