"""The shapes of requests, and what is said when a request does not have one.

Only what every upstream agrees on is checked: presence, types and ranges of the fields OpenAI documents. Fields the
gateway does not know are not looked at and travel on. Shapes are TypedDicts run by pydantic-core: no model objects are
made on this road. The wording of mistakes is in `mistakes.py`.
Lists stop at their first mistake (`fail_fast`): a long list of nonsense must not cost a long list of errors.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest
from gateway.wire.mistakes import explain

MAX_INPUTS = 2048  # OpenAI's own limit of inputs in one embeddings request
MAX_CHOICES = 128
_INT64 = 2**63

_open = with_config(ConfigDict(extra="allow", strict=True))

Tokens = Annotated[int, Field(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1, fail_fast=True)]


def _kind(value: Any) -> str | None:
    """Name the form of a field that has several, so that a mistake is told of the form that was meant."""
    if isinstance(value, str):
        return "~string"
    if isinstance(value, list):
        return "~array"
    if isinstance(value, dict):
        return "~object"
    return None


def _input_kind(value: Any) -> str | None:
    if isinstance(value, list) and value:
        if isinstance(value[0], list):
            return "~arrays"
        return "~tokens" if type(value[0]) in (int, float, bool) else "~strings"
    return "~strings" if isinstance(value, list) else _kind(value)


@_open
class Part(TypedDict, total=False):
    type: Required[str]
    text: str | None


Content = Annotated[
    Annotated[str, Tag("~string")] | Annotated[list[Part], Field(fail_fast=True), Tag("~array")],
    Discriminator(_kind),
]


@_open
class Function(TypedDict, total=False):
    name: Required[str]


@_open
class ToolCall(TypedDict, total=False):
    id: str | None
    type: str | None
    function: Function | None


@_open
class Message(TypedDict, total=False):
    role: Required[Literal["system", "developer", "user", "assistant", "tool", "function"]]
    content: Content | None
    name: str | None
    tool_call_id: str | None
    tool_calls: list[ToolCall] | None


@_open
class Tool(TypedDict, total=False):
    type: Required[str]
    function: Function | None


@_open
class Typed(TypedDict, total=False):
    type: Required[str]


@_open
class JsonSchema(TypedDict, total=False):
    name: str | None
    schema: dict[str, Any] | None


@_open
class ResponseFormat(Typed, total=False):
    json_schema: JsonSchema | None


@_open
class StreamOptions(TypedDict, total=False):
    include_usage: bool | None


Stop = Annotated[
    Annotated[str, Tag("~string")] | Annotated[list[str], Field(max_length=64, fail_fast=True), Tag("~array")],
    Discriminator(_kind),
]
ToolChoice = Annotated[Annotated[str, Tag("~string")] | Annotated[Typed, Tag("~object")], Discriminator(_kind)]


@_open
class Sampling(TypedDict, total=False):
    model: Required[Annotated[str, Field(min_length=1)]]
    frequency_penalty: Penalty | None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None
    max_completion_tokens: Tokens | None
    max_tokens: Tokens | None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None
    presence_penalty: Penalty | None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None
    stop: Stop | None
    stream: bool | None
    stream_options: StreamOptions | None
    temperature: Annotated[float, Field(ge=0, le=2)] | None
    top_p: Annotated[float, Field(ge=0, le=1)] | None
    user: str | None


@_open
class Chat(Sampling, total=False):
    messages: Required[Annotated[list[Message], Field(min_length=1, fail_fast=True)]]
    logprobs: bool | None
    metadata: dict[str, Any] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    response_format: ResponseFormat | None
    tool_choice: ToolChoice | None
    tools: Annotated[list[Tool], Field(max_length=1024, fail_fast=True)] | None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None


Prompt = Annotated[
    Annotated[str, Tag("~string")]
    | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("~strings")]
    | Annotated[TokenIds, Tag("~tokens")]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("~arrays")],
    Discriminator(_input_kind),
]


@_open
class Completion(Sampling, total=False):
    prompt: Prompt | None
    best_of: Annotated[int, Field(ge=1, le=20)] | None
    echo: bool | None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None
    suffix: str | None


Text = Annotated[str, Field(min_length=1)]
Input = Annotated[
    Annotated[Text, Tag("~string")]
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("~strings")]
    | Annotated[TokenIds, Tag("~tokens")]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("~arrays")],
    Discriminator(_input_kind),
]


@_open
class Embedding(TypedDict, total=False):
    model: Required[Annotated[str, Field(min_length=1)]]
    input: Required[Input]
    dimensions: Annotated[int, Field(ge=1, le=1_000_000)] | None
    encoding_format: Literal["float", "base64"] | None
    user: str | None


_chat = TypeAdapter(Chat).validator
_completion = TypeAdapter(Completion).validator
_embedding = TypeAdapter(Embedding).validator


def check_chat(body: dict[str, Any]) -> None:
    """Raise InvalidRequest, its `param` naming the field, unless `body` is a chat completion request."""
    try:
        _chat.validate_python(body)
    except ValidationError as error:
        raise explain(error.errors(include_url=False)[0]) from None
    wanted = body.get("response_format")
    if wanted is not None and wanted["type"] == "json_schema" and wanted.get("json_schema") is None:
        raise _missing("response_format.json_schema")
    for index, message in enumerate(body["messages"]):
        role = message["role"]
        if role == "tool" and not message.get("tool_call_id"):
            raise _missing(f"messages[{index}].tool_call_id")
        if role not in ("assistant", "function") and message.get("content") is None:
            raise _missing(f"messages[{index}].content")


def check_completion(body: dict[str, Any]) -> None:
    """Raise InvalidRequest, its `param` naming the field, unless `body` is a legacy completion request."""
    try:
        _completion.validate_python(body)
    except ValidationError as error:
        raise explain(error.errors(include_url=False)[0]) from None
    if body.get("prompt") is None:
        raise _missing("prompt")


def check_embedding(body: dict[str, Any]) -> None:
    """Raise InvalidRequest, its `param` naming the field, unless `body` is an embeddings request."""
    try:
        _embedding.validate_python(body)
    except ValidationError as error:
        raise explain(error.errors(include_url=False)[0]) from None


def _missing(path: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")
