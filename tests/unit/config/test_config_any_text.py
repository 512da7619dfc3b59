"""Whatever the file holds, it is a Config or a ConfigError of whole lines, and nothing else is raised."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Config, parse, resolve
from gateway.mistakes import ConfigError

KEYS = [
    "server",
    "auth",
    "keys",
    "providers",
    "openai",
    "local",
    "lab",
    "kind",
    "base_url",
    "api_key",
    "headers",
    "classes",
    "models",
    "small",
    "embedding",
    "image",
    "deployments",
    "provider",
    "model",
    "settings",
    "timeouts",
    "connect_seconds",
    "name",
    "key",
    "port",
    "host",
    "path",
    "threads",
    "stream",
    "redis",
    "url",
]
WORDS = [
    "openai",
    "llamacpp",
    "groq",
    "local",
    "small",
    "embedding",
    "*",
    "local/small",
    "a/b/c",
    "${A}",
    "${B:-x}",
    "${",
]
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=25,
)
GOOD = {
    "server": {"port": 8080, "data_dir": "d"},
    "auth": {"keys": [{"name": "a", "key": "b", "models": ["small"]}]},
    "providers": {
        "openai": {"api_key": "k", "headers": {"X": "y"}, "classes": {"small": "s"}, "settings": {"top_p": 1}},
        "lab": {"kind": "openai", "base_url": "http://h"},
        "local": {"kind": "llamacpp", "models": {"smollm2": {"threads": 1, "classes": ["small"]}, "minilm": {}}},
    },
    "models": {"small": {"deployments": ["local/small", {"provider": "lab", "model": "x"}], "timeouts": {}}},
    "embeddings": {"cache": {"memory": {}}},
    "redis": {"url": "redis://h"},
}


def settle(text: bytes, environ: dict[str, str]) -> None:
    try:
        config = parse(text, "gateway.yaml", environ=environ)
    except ConfigError as error:
        assert len(str(error).splitlines()) == len(error.mistakes) > 0
    else:
        assert isinstance(config, Config)
        resolve(config)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(text: bytes) -> None:
    settle(text, {})


@settings(deadline=None)
@given(st.text(st.sampled_from("ab:{}[]-&*!|>%@`'\"#,? \n\t0.$~<"), max_size=80))
def test_any_punctuation(text: str) -> None:
    settle(text.encode(), {})


@settings(deadline=None)
@given(tree=TREES, value=st.text(max_size=5))
def test_any_values(tree: Any, value: str) -> None:
    settle(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"), {"A": value})


@settings(deadline=None, max_examples=60)
@given(choice=st.randoms(use_true_random=False), value=TREES)
def test_a_good_file_with_any_value_in_any_place(choice: Any, value: Any) -> None:
    tree = yaml.safe_load(yaml.safe_dump(GOOD))
    places = list(_places(tree))
    inside, key = choice.choice(places)
    inside[key] = value

    settle(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"), {"A": "x"})


def _places(tree: Any):
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])
