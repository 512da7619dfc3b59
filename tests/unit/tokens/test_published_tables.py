"""OpenAI's encodings against tiktoken, with the published tables that litellm carries; skipped where it is not installed."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens import EncodingName, Encodings
from gateway.tokens.encodings import HELD

if TYPE_CHECKING:
    import splintr

tiktoken = pytest.importorskip("tiktoken")
NAMES: tuple[EncodingName, ...] = ("cl100k_base", "o200k_base")
ENCODINGS = Encodings()
RANGES = ((0x20, 0x7E), (0xC0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0xEFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x2000, 0x206F), (0x1F300, 0x1FAFF))  # fmt: skip
SCRIPTS = [st.text(st.characters(min_codepoint=first, max_codepoint=last), max_size=30) for first, last in RANGES]
CODE = st.text("abXY_09(){}[]<>=+-*/\\'\"`#;:,. \t\r\n", max_size=60)
CONTRACTIONS = st.text("'sStTdDmMlLvVeErRſ aé ", max_size=30)  # ſ is an s to whoever does not look at the case
MARKED = st.sampled_from(
    ["<|endoftext|>", "<|fim_prefix|>", "<|endofprompt|>", "<|im_start|>", "<|think|>", "<|/think|>"]
)
RUNS = st.tuples(st.sampled_from("a !\n\t我0é👍\u3000_="), st.integers(1, HELD // 4)).map(lambda run: run[0] * run[1])
TEXTS = st.lists(st.one_of(*SCRIPTS, CODE, CONTRACTIONS, MARKED, RUNS, st.text(max_size=20)), max_size=12).map("".join)


@cache
def ours(name: EncodingName) -> splintr.AnyTokenizer:
    import splintr

    return splintr.Tokenizer.from_pretrained(name)


@cache
def theirs(name: EncodingName) -> Any:
    """Return tiktoken's encoding, with a table from litellm's package instead of the network."""
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        pytest.skip("litellm is not installed")
    folder = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"

    def load(address: str, expected_hash: str) -> dict[bytes, int]:
        table = (folder / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()).read_bytes()
        assert hashlib.sha256(table).hexdigest() == expected_hash
        return {base64.b64decode(token): int(number) for token, number in map(bytes.split, table.splitlines())}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(openai_public, "load_tiktoken_bpe", load)
        return tiktoken.Encoding(**getattr(openai_public, name)())


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXTS)
@settings(max_examples=400, deadline=None)
def test_the_tokens_are_tiktokens(name: EncodingName, text: str) -> None:
    expected = theirs(name).encode_ordinary(text)

    assert ours(name).encode_ordinary(text) == expected
    assert ENCODINGS[name].take_apart(text).tokens == len(expected)
    assert ENCODINGS[name].take_apart(text, gives_way=True).tokens == len(expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_seventh_character_has_tiktokens_tokens(name: EncodingName) -> None:
    core, published = ours(name), theirs(name)
    every = [chr(code) for code in range(0x11_0000) if not 0xD800 <= code < 0xE000 and code % 7 == 0]

    # Behind a letter, so that its class in the expression counts.
    different = [
        one for one in every if core.encode_ordinary(f"a{one}b {one}") != published.encode_ordinary(f"a{one}b {one}")
    ]

    assert not different
