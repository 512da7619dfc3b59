"""What upstreams say of their limits, in the words that they use."""

from __future__ import annotations

import pytest

from gateway.routing.limits import ToldLimit, read_limit

SENTENCES = {
    "openai": (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 10021 tokens. Please reduce "
        "the length of the messages.",
        ToldLimit(8192, None, 10021),
    ),
    "openai, with the answer": (
        "This model's maximum context length is 4097 tokens, however you requested 5360 tokens (1360 in your prompt; 4000 "
        "for the completion). Please reduce your prompt; or completion length.",
        ToldLimit(4097, None, 1360, 4000),
    ),
    "openrouter": (
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens (139000 of text "
        "input, 1000 in the output).",
        ToldLimit(131072, None, 139000),
    ),
    "vllm": (
        "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens (4100 in the messages, 100 "
        "in the completion).",
        ToldLimit(4096, None, 4100, 100),
    ),
    "anthropic": ("prompt is too long: 205000 tokens > 200000 maximum", ToldLimit(None, 200000, 205000)),
    "anthropic, with the answer": (
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens`",
        ToldLimit(200000, None, 190000, 20000),
    ),
    "gemini": (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ToldLimit(None, 1048576, 1200000),
    ),
    "mistral": (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        ToldLimit(32768, None, 40000),
    ),
    "cohere": (
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000",
        ToldLimit(None, 4081, 5000),
    ),
    "xai": (
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        ToldLimit(None, 131072, 537812),
    ),
    "llama.cpp": (
        "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
        ToldLimit(8192, None, 9000),
    ),
    "vllm, by the answer": (
        "'max_tokens' or 'max_completion_tokens' is too large: 4000. This model's maximum context length is 4096 tokens and "
        "your request has 1200 input tokens (4000 > 4096 - 1200).",
        ToldLimit(4096, None, 1200),
    ),
    "vllm, older": (
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that `max_model_len` is "
        "no smaller than the number of text tokens.",
        ToldLimit(8192, None, 9000),
    ),
    "sglang": (
        "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9000 "
        "tokens: 8000 tokens from the input messages and 1000 tokens for the completion.",
        ToldLimit(8192, None, 8000),
    ),
    "sglang, by the input": (
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        ToldLimit(8192, None, 9000),
    ),
    "text-generation-inference": (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 "
        "`max_new_tokens`",
        ToldLimit(4096, None, 5000),
    ),
    "gemini, without brackets": (
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
        ToldLimit(None, 1048576),
    ),
    "vertex": (
        "Unable to submit request because the input token count is 1200000 but model only supports up to 1048576.",
        ToldLimit(None, 1048576, 1200000),
    ),
    "an input's length": (
        "Input length 9000 exceeds the maximum allowed input length of 8192 tokens.",
        ToldLimit(None, 8192, 9000),
    ),
    "of characters": (
        "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64, but got a string with length "
        "99 instead.",
        ToldLimit(),
    ),
    "with separators": ("The maximum context length is 1,048,576 tokens.", ToldLimit(1048576)),
    "bedrock": ("Input is too long for requested model.", ToldLimit()),
    "groq": ("Please reduce the length of the messages or completion.", ToldLimit()),
    "nothing": ("", ToldLimit()),
    "no number at all": ("maximum context length is 0 tokens", ToldLimit()),
}


@pytest.mark.parametrize(("sentence", "told"), SENTENCES.values(), ids=SENTENCES)
def test_what_a_refusal_tells_of_the_limit_is_read(sentence: str, told: ToldLimit) -> None:
    assert read_limit(sentence) == told


def test_a_sentence_of_any_length_is_read_in_no_time() -> None:
    assert read_limit("(" * 100_000 + "context window " * 10_000 + "9" * 100_000) == ToldLimit()
