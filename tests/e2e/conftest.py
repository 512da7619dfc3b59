"""One real gateway for all tests that only ask it something: the shipped configuration, on the models it is shipped for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.command import Gateway, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shipped_directory(tmp_path_factory: pytest.TempPathFactory, chat_gguf: Path, embedding_gguf: Path) -> Path:
    """A directory to serve the shipped configuration in: its `data` holds the packaged models."""
    assert chat_gguf.parent == embedding_gguf.parent
    directory = tmp_path_factory.mktemp("shipped")
    (directory / "data").mkdir()
    (directory / "data" / "models").symlink_to(chat_gguf.parent.resolve())
    return directory


@pytest.fixture(scope="session")
def shipped_yaml() -> str:
    return (ROOT / "gateway.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def gateway(shipped_directory: Path, shipped_yaml: str) -> Iterator[Gateway]:
    """`gateway serve` with the shipped configuration and no key in the environment, ready to answer."""
    with serving(shipped_yaml, shipped_directory) as running:
        running.wait_for(lambda: running.get("/readyz")[0] == 200)
        yield running


@pytest.fixture(scope="session")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """The official client as a program makes it, but that no failure is hidden by its own retries."""
    with openai.OpenAI(base_url=gateway.api_url, api_key="unused", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")
