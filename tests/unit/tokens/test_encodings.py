"""OpenAI's encodings: the same tokens as tiktoken's, whatever the text; other makers' load, and count any text whole."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens import Counting, EncodingName, Encodings, counting_of
from gateway.tokens.encodings import HELD, MOST_KEPT, Encoding
from gateway.tokens.stretches import USUAL, stretches

if TYPE_CHECKING:
    import splintr

NAMES: tuple[EncodingName, ...] = get_args(EncodingName)
ENCODINGS = Encodings()
SCRIPTS = ("english words 123, it's!", "Straße für Ärger", "漢字仮名、交じり文。", "русский текст", "العربية نص", "हिन्दी पाठ", "ไทย", "👨‍👩‍👧‍👦🇩🇪é", "if x:\n\t\treturn  {}\r\n", "   \n\n  ", "0f3Ac9 ²5 Ⅷ9", "<|endoftext|>")  # fmt: skip
WORDS = st.one_of(st.sampled_from(SCRIPTS), st.text(max_size=20), st.text("ab \n'1.", max_size=30))
TEXTS = st.lists(WORDS, max_size=30).map(" ".join)
RUNS = st.tuples(st.sampled_from("a !\n\t我0é👍\u3000_="), st.integers(1, 3 * HELD)).map(lambda run: run[0] * run[1])


@cache
def whole_texts(name: EncodingName) -> splintr.AnyTokenizer:
    import splintr

    return splintr.Tokenizer.from_pretrained(name)


def exact(name: EncodingName, text: str) -> int:
    """Return how many tokens the library finds in a text that it gets whole."""
    return len(whole_texts(name).encode_ordinary(text))


# Counted with tiktoken 0.14.0.
@pytest.mark.parametrize(
    ("text", "with_cl100k", "with_o200k"),
    [
        ("", 0, 0),
        ("hello world", 2, 2),
        ("The quick brown fox jumps over the lazy dog, and it's 12345 o'clock.", 19, 18),
        ("Straße für Ärger", 6, 5),
        ("漢字仮名、交じり文。", 12, 11),
        ("русский текст", 5, 3),
        ("हिन्दी पाठ", 9, 4),
        ("👨‍👩‍👧‍👦🇩🇪é", 25, 16),
        ("if x:\n\t\treturn  {}\r\n", 7, 7),
        ("<|endoftext|><|im_start|><|think|>", 16, 16),
        ("a" * 1000, 125, 125),
        (" " * 1000, 9, 9),
        ("\ud800", 1, 1),
    ],
)
@pytest.mark.parametrize("gives_way", [False, True])
def test_known_texts_have_the_tokens_that_openai_counts(
    text: str, with_cl100k: int, with_o200k: int, gives_way: bool
) -> None:
    counted = [ENCODINGS[name].take_apart(text, gives_way=gives_way).tokens for name in ("cl100k_base", "o200k_base")]

    assert counted == [with_cl100k, with_o200k]


@pytest.mark.parametrize("name", NAMES)
@given(text=st.one_of(TEXTS, RUNS, st.lists(st.one_of(TEXTS, RUNS), max_size=4).map("".join)))
@settings(max_examples=60, deadline=None)
def test_a_text_has_the_same_tokens_with_other_threads_waiting_and_without(name: EncodingName, text: str) -> None:
    held = ENCODINGS[name].take_apart(text)

    given_way = ENCODINGS[name].take_apart(text, gives_way=True)

    broken = sum(is_broken for _, is_broken in stretches(text, HELD))
    assert abs(given_way.tokens - held.tokens) <= 8 * broken  # a run of 12,288 underscores: 5 in 200


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXTS.filter(bool), usual=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_stretches_have_the_tokens_of_the_whole_unless_one_is_broken(name: EncodingName, text: str, usual: int) -> None:
    parts = [stretch for stretch, _ in stretches(text, usual)]
    broken = sum(is_broken for _, is_broken in stretches(text, usual))

    apart = sum(ENCODINGS[name].take_apart(part).tokens for part in parts)

    whole = ENCODINGS[name].take_apart(text).tokens
    assert "".join(parts) == text
    assert whole <= apart + broken
    assert apart == whole or broken


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gives_way", [False, True])
def test_a_long_text_has_the_tokens_of_the_whole(name: EncodingName, gives_way: bool) -> None:
    text = "\n".join(SCRIPTS) * 2000

    assert ENCODINGS[name].take_apart(text, gives_way=gives_way).tokens == exact(name, text)


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXTS.filter(bool), times=st.integers(1, 200), places=st.lists(st.integers(0, 20_000), max_size=5))
@settings(max_examples=30, deadline=None)
def test_the_first_tokens_are_the_characters_that_are_whole_in_them(
    name: EncodingName, text: str, times: int, places: list[int]
) -> None:
    long = text * times
    core = whole_texts(name)
    ids = core.encode_ordinary(long)

    taken = ENCODINGS[name].take_apart(long, gives_way=True)

    assert taken.tokens == len(ids)
    for place in [*places, len(ids) - 1, len(ids)]:
        whole = core.decode_bytes(ids[:place]).decode("utf-8", "ignore")
        assert taken.end_of(place) == len(whole)


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base"])
@pytest.mark.parametrize("unit", ["a", " ", "\n", "!", "我", "ab", "\u3000", "0", "👍", "_"])
def test_a_run_of_one_character_is_counted_and_never_too_low(name: EncodingName, unit: str) -> None:
    text = (unit * (8 * USUAL))[: 7 * USUAL + 777]

    counted = ENCODINGS[name].take_apart(text, gives_way=True).tokens

    whole = exact(name, text)
    assert whole <= counted <= whole + 12


@pytest.mark.parametrize("gives_way", [False, True])
def test_words_that_stand_for_special_tokens_are_text_in_a_long_text_too(gives_way: bool) -> None:
    text = "some words, <|endoftext|> and <|im_start|>.\n" * 3000

    assert ENCODINGS["cl100k_base"].take_apart(text, gives_way=gives_way).tokens == exact("cl100k_base", text)


def test_surrogates_that_stand_alone_count_as_replaced_and_keep_their_places() -> None:
    taken = ENCODINGS["cl100k_base"].take_apart("ab \ud800 cd " * 10)

    assert taken.tokens == ENCODINGS["cl100k_base"].take_apart("ab \ufffd cd " * 10).tokens
    assert taken.end_of(taken.tokens) == 80


def test_threads_may_count_at_the_same_time() -> None:
    encoding = Encoding("cl100k_base")
    texts = ["words in lines, " * 5000 + "a" * size for size in range(6)]
    counted: dict[str, int] = {}

    def count(text: str) -> None:
        counted[text] = encoding.take_apart(text, gives_way=True).tokens

    threads = [threading.Thread(target=count, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted == {text: encoding.take_apart(text).tokens for text in texts}


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text())
def test_no_text_has_more_tokens_than_bytes(name: EncodingName, text: str) -> None:
    assert ENCODINGS[name].take_apart(text).tokens <= len(text.encode())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("text-embedding-3-small", Counting("cl100k_base", 0.0)),
        ("openai/text-embedding-ada-002", Counting("cl100k_base", 0.0)),
        ("gpt-4o-mini", Counting("o200k_base", 0.0)),
        ("gpt-5", Counting("o200k_base", 0.0)),
        ("openai/gpt-oss-120b", Counting("o200k_base", 0.0)),
        ("gpt-oss:20b", Counting("o200k_base", 0.0)),
        ("o3-mini", Counting("o200k_base", 0.0)),
        ("gpt-4-turbo", Counting("cl100k_base", 0.0)),
        ("gpt-3.5-turbo", Counting("cl100k_base", 0.0)),
        ("meta-llama/Llama-3.3-70B-Instruct", Counting("llama3", 0.01)),
        ("llama3.1:8b", Counting("llama3", 0.01)),
        ("Qwen/Qwen3-Embedding-0.6B", Counting("qwen3", 0.01)),
        ("qwen2.5-coder", Counting("qwen3", 0.01)),
        ("deepseek-chat", Counting("deepseek_v3", 0.01)),
        ("deepseek-r1-distill-llama-70b", Counting("cl100k_base", 0.4)),
        ("open-mistral-nemo", Counting("mistral_v3", 0.01)),
        ("mistral-embed", Counting("cl100k_base", 0.4)),
        ("qwen3.5-plus", Counting("cl100k_base", 0.4)),
        ("BAAI/bge-m3", Counting("cl100k_base", 0.4)),
        ("claude-sonnet-4", Counting("cl100k_base", 0.4)),
    ],
)
def test_a_model_is_counted_with_its_own_encoding_or_the_nearest(model: str, expected: Counting) -> None:
    assert counting_of(model) == expected


def test_nothing_is_loaded_before_it_is_needed() -> None:
    code = "import sys; import gateway.tokens; assert not {'splintr', 'tiktoken', 'regex'} & set(sys.modules)"

    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
    assert not Encoding("o200k_base").is_loaded


@pytest.mark.parametrize("gives_way", [False, True])
def test_the_library_remembers_no_more_than_a_few_words_of_callers(gives_way: bool) -> None:
    encoding = Encoding("cl100k_base")

    for number in range(600):
        encoding.take_apart("".join(chr(97 + (number >> bit & 1)) for bit in range(10)) * 4, gives_way=gives_way)

    assert encoding._loaded is not None
    assert encoding._loaded.core.cache_len <= MOST_KEPT
    encoding.take_apart("xyz" * HELD, gives_way=gives_way)
    assert encoding._loaded.core.cache_len == 0
