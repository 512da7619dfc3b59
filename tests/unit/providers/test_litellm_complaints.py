"""Which fields upstreams' sentences are about; the sentences are those of real upstreams."""

from __future__ import annotations

import orjson
import pytest

from gateway.errors import UpstreamRejected
from gateway.providers.litellm_complaints import Complaint, read_complaint, read_own_complaint
from gateway.providers.litellm_errors import explain_refusal

THOUGHTS = ("reasoning_effort", "thinking")
PENALTIES = ("frequency_penalty", "presence_penalty")

LACKING: dict[str, tuple[str, ...]] = {
    "temperature: `temperature` is deprecated for this model.": ("temperature",),
    "`temperature` is deprecated for this model.": ("temperature",),
    "The model returned the following errors: `temperature` is deprecated for this model.": ("temperature",),
    "The model returned the following errors: temperature: `temperature` is deprecated.": ("temperature",),
    "temperature is not supported": ("temperature",),
    "seed: Extra inputs are not permitted": ("seed",),
    "foo_bar: Extra inputs are not permitted": ("foo_bar",),
    "Penalty is not enabled for models/gemini-2.5-flash": PENALTIES,
    "Penalty is not enabled for this model": PENALTIES,
    "Logprobs is not enabled for models/gemini-2.5-pro": ("logprobs", "top_logprobs"),
    "Unable to submit request because Logprobs is not supported for this model.": ("logprobs", "top_logprobs"),
    "Multiple candidates is not enabled for this model": ("n",),
    "JSON mode is not enabled for models/gemma-3-27b-it": ("response_format",),
    "Invalid JSON payload received. Unknown name \"presencePenalty\" at 'generation_config': Cannot find field.": (
        "presence_penalty",
    ),
    'Invalid JSON payload received. Unknown name "frequency_penalty": Cannot find field.': ("frequency_penalty",),
    "Malformed input request: #: extraneous key [stopSequences] is not permitted, please reformat your input.": (
        "stop",
    ),
    "This model doesn't support the topP field. Remove topP and try again.": ("top_p",),
    "This model does not support the effort parameter.": THOUGHTS,
    '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" instead.': THOUGHTS,
    "adaptive thinking is not supported on this model": THOUGHTS,
    "Thinking level is not supported for this model.": THOUGHTS,
}
CLASHING: dict[str, tuple[str, ...]] = {
    "`temperature` and `top_p` cannot both be specified for this model. Please use only one.": ("top_p", "temperature"),
    "The model returned the following errors: `temperature` and `top_p` cannot both be specified for this model.": (
        "top_p",
        "temperature",
    ),
    "`temperature` may only be set to 1 when thinking is enabled. Please consult our documentation.": (
        "temperature",
        *THOUGHTS,
    ),
    "`top_k` must be unset when thinking is enabled.": ("top_k", *THOUGHTS),
    "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.": ("top_p", *THOUGHTS),
    "temperature is not supported when thinking is enabled": ("temperature", *THOUGHTS),
    "Thinking may not be enabled when tool_choice forces tool use.": (*THOUGHTS, "tool_choice"),
}
VALUES: dict[str, tuple[str, ...]] = {
    "invalid temperature: only 1 is allowed for this model": ("temperature",),
    "Unable to submit request because candidateCount must be 1 but the entered value was 3.": ("n",),
    "Only one candidate can be specified": ("n",),
    "Budget 0 is invalid. This model only works in thinking mode.": THOUGHTS,
}
OTHERS = (
    "",
    "temperature: range: 0..1",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "messages: text content blocks must be non-empty",
    "messages.0.content: `temperature` and `top_p` cannot both be specified for this model.",
    "tools.0.name: 'temperature is not supported' is no name",
    "Function 'x': temperature is not supported",
    "Caching is not supported for this model",
    "`max_tokens` must be greater than `thinking.budget_tokens`.",
)


@pytest.mark.parametrize("sentence", LACKING)
def test_a_sentence_names_the_fields_that_the_model_lacks(sentence: str) -> None:
    complaint = read_complaint(sentence)

    assert complaint is not None
    assert (complaint.fields, complaint.code, complaint.clashes) == (LACKING[sentence], "unsupported_parameter", False)


@pytest.mark.parametrize("sentence", CLASHING)
def test_a_sentence_names_the_fields_that_cannot_go_together(sentence: str) -> None:
    complaint = read_complaint(sentence)

    assert complaint is not None
    assert (complaint.fields, complaint.clashes) == (CLASHING[sentence], True)


@pytest.mark.parametrize("sentence", VALUES)
def test_a_sentence_names_the_field_whose_value_is_not_supported(sentence: str) -> None:
    complaint = read_complaint(sentence)

    assert complaint is not None
    assert (complaint.fields, complaint.code, complaint.clashes) == (VALUES[sentence], "unsupported_value", False)


@pytest.mark.parametrize("sentence", OTHERS)
def test_a_sentence_about_something_else_or_that_quotes_a_request_is_no_complaint(sentence: str) -> None:
    assert read_complaint(sentence) is None


def test_a_refusal_carries_what_its_sentence_complains_of() -> None:
    body = orjson.dumps({"error": {"code": 400, "message": "Penalty is not enabled for this model"}})

    error = explain_refusal(400, {}, body, "chat/completions", ())

    assert isinstance(error, UpstreamRejected)
    assert (error.code, error.param, error.fields) == ("unsupported_parameter", PENALTIES[0], PENALTIES)


def test_a_code_that_the_upstream_gave_is_believed_before_its_sentence() -> None:
    said = {"code": "invalid_value", "param": "x", "message": "Penalty is not enabled for this model"}

    error = explain_refusal(400, {}, orjson.dumps({"error": said}), "chat/completions", ())

    assert isinstance(error, UpstreamRejected)
    assert (error.code, error.param, error.fields) == ("invalid_value", "x", ())


OWN: list[tuple[str, Complaint | None]] = [
    (
        "claude-opus-4-7 does not support temperature=0.3. Only temperature=1 is supported. ",
        Complaint(("temperature",), "unsupported_value"),
    ),
    ("claude-opus-5-5 does not support top_p=0.5.", Complaint(("top_p",), "unsupported_value")),
    (
        "O-series models don't support temperature=0.6. Only temperature=1 is supported.",
        Complaint(("temperature",), "unsupported_value"),
    ),
    (
        "gpt-5 doesn't support temperature=0.6 while reasoning is active. Only temperature=1 is supported",
        Complaint(("temperature", *THOUGHTS), clashes=True),
    ),
    (
        "openai.gpt-oss doesn't support ['temperature', 'top_p'] while reasoning is active on Bedrock's endpoint.",
        Complaint(("temperature", "top_p", *THOUGHTS), clashes=True),
    ),
    ("bedrock does not support parameters: ['seed', 'n'], for model=x.", Complaint(("seed", "n"))),
    ("Bedrock doesn't support tool_choice=none.", Complaint(("tool_choice",), "unsupported_value")),
    ("fable-5-1 does not support forced tool use (tool_choice='required').", Complaint(("tool_choice",))),
    ("Vertex AI does not support mixing function declarations with searches", None),
    ("bedrock does not support parameters: [], for model=x.", None),
    ("Bedrock doesn't support tool calling without `tools=` param specified.", None),
    ("he said: claude does not support temperature=1", None),
]


@pytest.mark.parametrize(("sentence", "complaint"), OWN, ids=[sentence for sentence, _ in OWN])
def test_sentences_of_litellm_itself_name_their_fields(sentence: str, complaint: Complaint | None) -> None:
    assert read_own_complaint(sentence) == complaint
