"""A caller's mistake is a 400 on every wire, in one shape: nothing fails over, and nothing of the machinery is shown.

Asked through the real application, with odd requests as callers send them. Which place is named for which mistake is in
`test_litellm_request_forms.py`; here each wire's whole way is gone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.app import Answer, RunningGateway, running
from tests.support.upstream import ScriptedUpstream
from tests.support.wires import BAD_REQUEST, PICTURE, UPSTREAM_KEY, Anthropic, Gemini, OpenAI, WireUpstream

FOREIGN = ("anthropic", "gemini", "bedrock")
PNG = f"data:image/png;base64,{PICTURE}"
HI = {"role": "user", "content": "Hi"}
TEXT = {"type": "text", "text": "Hi"}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "2"}


def parts(*given: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [HI, {"role": role, "content": list(given)}]}


def picture(url: Any) -> dict[str, Any]:
    return parts(TEXT, {"type": "image_url", "image_url": url})


def called(call: dict[str, Any], result: Any = "2", **fields: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "content": None, "tool_calls": [call], **fields}
    return {"tools": [ADD], "messages": [HI, answer, {**RESULT, "content": result}]}


def arguments(given: Any) -> dict[str, Any]:
    return called({**CALL, "function": {"name": "add", "arguments": given}})


def tool(given: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [ADD, given]}


def function(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object", **parameters}}}


def shaped(**fields: Any) -> dict[str, Any]:
    return {"response_format": fields}


def doubling(times: int) -> dict[str, Any]:
    """Return a schema in which every definition names the next one twice."""
    twice = [{"anyOf": [{"$ref": f"#/$defs/X{index + 1}"}] * 2} for index in range(times)]
    return {"$ref": "#/$defs/X0", "$defs": {f"X{index}": schema for index, schema in enumerate(twice)}}


ODD: dict[str, dict[str, Any]] = {
    "an unknown part": parts({"type": "foo"}),
    "an unknown part beside text": parts(TEXT, {"type": "foo", "x": 1}),
    "a part of another API": parts({"type": "input_text", "text": "Hi"}),
    "Anthropic's own part": parts({"type": "tool_result", "tool_use_id": "a", "content": "x"}),
    "an unknown part of the system": parts({"type": "foo"}, role="system"),
    "an unknown part of an answer": parts({"type": "foo"}, role="assistant"),
    "text that is null": parts(TEXT, {"type": "text", "text": None}),
    "text that is missing": parts({"type": "text"}),
    "text that is null in a result": called(CALL, [{"type": "text", "text": None}]),
    "an unknown part of a result": called(CALL, [{"type": "foo"}]),
    "content of a wrong type": {"messages": [{"role": "user", "content": 5}]},
    "a picture that is missing": parts({"type": "image_url"}),
    "a picture that is null": picture(None),
    "a picture that is a number": picture(7),
    "a picture without a URL": picture({"detail": "low"}),
    "a picture whose URL is null": picture({"url": None}),
    "a picture whose URL is a list": picture({"url": [PNG]}),
    "a picture that is no URL": picture({"url": "abc"}),
    "a picture as bare base64": picture(PICTURE),
    "a picture that is not base64": picture({"url": "data:image/png,abc"}),
    "a picture without a media type": picture({"url": f"data:;base64,{PICTURE}"}),
    "a picture without an end": picture({"url": "data:image/png;base64"}),
    "a file that is missing": parts({"type": "file"}),
    "a file that is a string": parts({"type": "file", "file": "abc"}),
    "a file without data": parts({"type": "file", "file": {}}),
    "a file that is no data: URL": parts({"type": "file", "file": {"file_data": "abc"}}),
    "thoughts that are a string": called(CALL, thinking_blocks="x"),
    "thoughts of strings": called(CALL, thinking_blocks=["x"]),
    "thoughts that are a number": called(CALL, thinking_blocks=5),
    "arguments that are no JSON": arguments("{oops"),
    "arguments that are a list": arguments("[1]"),
    "arguments that are null": arguments(None),
    "arguments that are an object": arguments({"a": 1}),
    "a call without a function": called({"id": "c1", "type": "function"}),
    "a call without an id": called({"type": "function", "function": CALL["function"]}),
    "a call of a custom tool": called({"id": "c1", "type": "custom", "custom": {"name": "f", "input": "x"}}),
    "a result of no call": {"messages": [HI, RESULT]},
    "a result of another call": called({**CALL, "id": "c2"}),
    "a function's result without a name": {"messages": [HI, {"role": "function", "content": "x"}]},
    "a custom tool": tool({"type": "custom", "custom": {"name": "f"}}),
    "an unknown tool": tool({"type": "foo"}),
    "a tool without a function": tool({"type": "function"}),
    "a function without a name": tool({"type": "function", "function": {"parameters": {}}}),
    "a function whose parameters are text": tool({"type": "function", "function": {"name": "f", "parameters": "x"}}),
    "a choice of no tool": {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "zz"}}},
    "a choice that is unknown": {"tools": [ADD], "tool_choice": "foo"},
    "a choice of an unknown type": {"tools": [ADD], "tool_choice": {"type": "foo"}},
    "a choice without a name": {"tools": [ADD], "tool_choice": {"type": "function", "function": "add"}},
    "an unknown format": shaped(type="grammar", grammar="x"),
    "a format without a schema": shaped(type="json_schema", json_schema={"name": "x"}),
    "a format whose schema is text": shaped(type="json_schema", json_schema={"name": "x", "schema": "x"}),
    "a schema that stands for gigabytes": tool(function(**doubling(30))),
    "a format that stands for gigabytes": shaped(type="json_schema", json_schema={"name": "x", "schema": doubling(30)}),
    "a stop that is a number": {"stop": 5},
    "an unknown effort": {"reasoning_effort": "foo"},
    "a search by text": {"web_search_options": "x"},
}
# What is refused by litellm's translation into one wire only; the others let the upstream judge.
ODD_TO_ONE: list[tuple[str, dict[str, Any]]] = [
    ("gemini", {"functions": ["x"]}),
    ("gemini", {"modalities": ["audio"], "audio": {"voice": "a", "format": "wav"}}),
    ("anthropic", {"messages": [{"role": "system", "content": "Hi"}]}),
    ("anthropic", tool({"type": "computer_20250124", "function": {"name": "computer"}})),
    ("anthropic", {"web_search_options": {"user_location": "x"}}),
    ("bedrock", {"messages": [{"role": "system", "content": "Hi"}]}),
    ("bedrock", picture({"url": f"data:foo/bar;base64,{PICTURE}"})),
    ("bedrock", picture({"url": f"data:image/svg+xml;base64,{PICTURE}"})),
    ("bedrock", picture({"url": PNG, "format": 5})),
    ("bedrock", parts(TEXT, {"type": "file", "file": {"file_data": f"data:application/x-xyz;base64,{PICTURE}"}})),
    ("bedrock", parts(TEXT, {"type": "document", "source": {"type": "text", "data": "x"}})),
    ("bedrock", {"tools": [ADD], "tool_choice": "none"}),
    ("bedrock", tool(function(properties={"a": {"$ref": 5}}))),
]


class House:
    """The gateway with one alias per wire, each of which would go on to a second upstream of OpenAI's wire."""

    def __init__(self, gateway: RunningGateway, upstreams: dict[str, ScriptedUpstream]) -> None:
        self.gateway = gateway
        self.upstreams = upstreams

    async def ask(self, wire: str, body: dict[str, Any], **fields: Any) -> Answer:
        return await self.gateway.chat(
            **{"messages": [HI], "max_tokens": 50, **copy.deepcopy(body), "model": wire}, **fields
        )

    @property
    def asked(self) -> int:
        """Return how many requests came to any upstream."""
        return sum(len(upstream.requests) for upstream in self.upstreams.values())


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        known = {
            kind.name: await stack.enter_async_context(WireUpstream(kind())) for kind in (OpenAI, Anthropic, Gemini)
        }
        bedrock = await stack.enter_async_context(ScriptedUpstream())
        providers: dict[str, dict[str, Any]] = {
            name: {"kind": "litellm", "prefix": name, "base_url": known[name].base_url, "api_key": UPSTREAM_KEY}
            for name in ("anthropic", "gemini")
        }
        account = {
            "aws_region_name": "us-east-1",
            "aws_access_key_id": "AKCANARY",
            "aws_secret_access_key": UPSTREAM_KEY,
        }
        url = f"http://127.0.0.1:{bedrock.port}"
        providers["bedrock"] = {"kind": "litellm", "prefix": "bedrock", "base_url": url, "options": account}
        providers["openai"] = {"kind": "openai", "base_url": known["openai"].base_url, "api_key": UPSTREAM_KEY}
        named = {name: f"{name}/{upstream.wire.model}" for name, upstream in known.items()}
        named["bedrock"] = "bedrock/us.amazon.nova-2-lite-v1:0"
        spare = named["openai"]
        models = {name: {"deployments": [first, spare] if first != spare else [spare]} for name, first in named.items()}
        gateway = await stack.enter_async_context(running(json.dumps({"providers": providers, "models": models})))
        yield House(gateway, {**known, "bedrock": bedrock})


def complaint(answer: Answer) -> str:
    """Return what is not as a caller's mistake must be answered, "" if nothing is."""
    error = answer.error
    seen = (answer.status, error["type"], answer.headers.get("x-gateway-attempts", "1"))
    if seen != (400, "invalid_request_error", "1") or not error["code"]:
        return f"{seen}: {error}"
    shown = answer.body.decode().lower()
    leaks = [
        word for word in ("litellm", "traceback", "site-packages", "has no attribute", "nonetype") if word in shown
    ]
    return f"it shows {leaks}: {error}" if leaks else ""


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("wire", FOREIGN)
async def test_a_mistake_is_a_400_on_every_wire_and_goes_no_further(house: House, wire: str, stream: bool) -> None:
    answers = {name: await house.ask(wire, body, stream=stream) for name, body in ODD.items()}

    complaints = {name: complaint(answer) for name, answer in answers.items()}
    assert {name: said for name, said in complaints.items() if said} == {}
    assert house.asked == 0


async def test_what_one_wire_has_no_words_for_is_a_400_there(house: House) -> None:
    answers = [(wire, body, await house.ask(wire, body)) for wire, body in ODD_TO_ONE]

    assert [(wire, body, said) for wire, body, answer in answers if (said := complaint(answer))] == []
    assert house.asked == 0


@pytest.mark.parametrize("wire", FOREIGN)
async def test_the_answer_has_the_shape_of_an_upstreams_own_refusal(house: House, wire: str) -> None:
    upstream = house.upstreams["openai"]
    assert isinstance(upstream, WireUpstream)
    upstream.play(BAD_REQUEST)

    theirs = await house.ask("openai", {})
    ours = await house.ask(wire, ODD["an unknown part"])

    assert (ours.status, ours.error["type"]) == (theirs.status, theirs.error["type"])
    assert ours.error.keys() == theirs.error.keys()
    assert ours.headers.keys() == theirs.headers.keys()


@pytest.mark.parametrize("wire", FOREIGN)
async def test_mistakes_of_one_caller_never_make_a_deployment_rest(house: House, wire: str) -> None:
    for _ in range(5):
        for name in ("an unknown part", "an unknown effort"):
            await house.ask(wire, ODD[name])

    answer = await house.ask(wire, ODD["an unknown effort"])

    assert answer.headers["x-gateway-deployment"].startswith(f"{wire}/")
