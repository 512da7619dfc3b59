"""Styles by name, and the class that suits a task."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidRequest
from gateway.routing import STYLES, check_style
from gateway.routing.styles import choose_class, split_style


def test_the_styles_have_the_numbers_of_the_framework_they_come_from() -> None:
    numbers = {name: tuple(fields.values()) for name, fields in STYLES.items()}

    assert numbers == {"creative": (0.8, 0.7, 0.7), "balanced": (0.5, 0.3, 0.3), "precise": (0.2, 0.0, 0.0)}


@pytest.mark.parametrize(("word", "style"), [("", ""), ("precise", "precise"), (" Creative ", "creative")])
def test_a_style_is_one_of_three_words(word: str, style: str) -> None:
    assert check_style(word) == style


@pytest.mark.parametrize("word", ["wild", "precise,creative", "\ud800"])
def test_another_word_is_refused_with_those_that_are_known(word: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_style(word)

    assert caught.value.param == "x-gateway-style"
    assert "creative, balanced, precise" in caught.value.message


@pytest.mark.parametrize(
    ("alias", "parts"),
    [
        ("small:precise", ("small", "precise")),
        ("lab/a:7b:creative", ("lab/a:7b", "creative")),
        ("small:7b", ("small:7b", "")),
        (":precise", (":precise", "")),
        ("precise", ("precise", "")),
        ("small:", ("small:", "")),
    ],
)
def test_a_name_may_end_in_a_style(alias: str, parts: tuple[str, str]) -> None:
    assert split_style(alias) == parts


@pytest.mark.parametrize(
    ("speed", "complexity", "chosen"),
    [
        ("fast", None, "small"),
        ("fast", "high", "small"),
        (None, "high", "large"),
        ("slow", "low", "medium"),
        (None, None, "medium"),
        (1, [], "medium"),
    ],
)
def test_fast_comes_before_complex_and_the_middle_is_for_the_rest(
    speed: object, complexity: object, chosen: str
) -> None:
    assert choose_class(speed, complexity) == chosen
