"""Providers and tables without a network: what is tested here is who is asked, not how."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.deployments import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def later(clock: FakeClock) -> Callable[[float], None]:
    return clock.advance
