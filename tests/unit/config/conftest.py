"""Short ways to load a configuration from text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import dedent

import pytest

from gateway.config import Config, parse
from gateway.mistakes import ConfigError

Load = Callable[..., Config]
Complain = Callable[..., list[str]]


@pytest.fixture
def load_text() -> Load:
    def load(text: str, environ: Mapping[str, str] | None = None, **overrides: object) -> Config:
        return parse(dedent(text), "gateway.yaml", environ=environ or {}, **overrides)  # type: ignore[arg-type]  # host, port

    return load


@pytest.fixture
def complain() -> Complain:
    """Return the lines of the ConfigError that the text must raise."""

    def lines(text: str | bytes, environ: Mapping[str, str] | None = None, **overrides: object) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            parse(dedent(text) if isinstance(text, str) else text, "gateway.yaml", environ=environ or {}, **overrides)  # type: ignore[arg-type]  # host, port
        return str(caught.value).split("\n")

    return lines
