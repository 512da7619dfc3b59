"""The providers of litellm that may be asked: those proven to ask over our connections and nowhere else.

Some of litellm's providers open connections in ways of their own, which follow redirects with our key, fetch prompts'
templates from a third party, look for a server on a port of their own choice, or wait on the event loop. Which do
changes between its versions, so a list of the proven ones is kept instead of one of the others: the tests ask each of
these with an upstream that redirects. A provider that speaks OpenAI's wire needs no place here: `kind: openai` is for it.
"""

from __future__ import annotations

_PROVEN = """
    a2a ai21 ai21_chat aiml amazon_nova anthropic anthropic_text apertis assemblyai azure azure_ai azure_text
    baseten bedrock bedrock_mantle cerebras charity_engine chutes clarifai cloudflare codestral cognition cohere
    cohere_chat cometapi compactifai cortecs custom_openai darkbloom dashscope datarobot deepinfra deepseek
    docker_model_runner edenai empower fal_ai featherless_ai fireworks_ai friendliai galadriel gemini github groq
    helicone heroku hosted_vllm hyperbolic inception infinity jina_ai lambda_ai langflow langgraph libertai
    litellm_proxy llamafile lm_studio maritalk meta meta_llama minimax mistral modelscope moonshot morph nadir
    nebius neosantara novita nscale nvidia_nim oobabooga openai openai_like openrouter ovhcloud parasail perplexity
    pinstripes poe prism publicai qwen_ai_platform qwencloud recraft reka runwayml sail sambanova scaleway snowflake
    stability synthetic tencent tensormesh together_ai v0 vercel_ai_gateway vertex_ai volcengine voyage wandb xai
    xiaomi_mimo xinference zai
"""
PROVEN = frozenset(_PROVEN.split())


def check_prefix(prefix: str) -> str:
    """Return the name of a provider that may be asked; raises ValueError that says what to do instead."""
    if prefix not in PROVEN:
        raise ValueError(
            "litellm's provider of this name is not proven to keep to its base_url; "
            "where it speaks OpenAI's wire, expected kind: openai with its base_url"
        )
    return prefix
