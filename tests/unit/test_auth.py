"""A key tells its caller; everything else is refused in the same words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth import KeyRing, KeySettings
from gateway.errors import Unauthenticated

KEY = "gw-0123456789abcdef"


def make_ring(*keys: str) -> KeyRing:
    return KeyRing(KeySettings(name=f"app{index}", key=key) for index, key in enumerate(keys))


def test_each_key_tells_its_caller_with_role_and_models() -> None:
    ring = KeyRing(
        [
            KeySettings(name="app", key=KEY, models=("small",)),
            KeySettings(name="watcher", key="other-key", role="viewer"),
        ]
    )

    app, watcher = ring.identify(KEY), ring.identify("other-key")

    assert (app.name, app.role, app.models) == ("app", "user", {"small"})
    assert (watcher.name, watcher.role, watcher.models) == ("watcher", "viewer", {"*"})


@settings(deadline=None)
@given(st.text(), st.integers(0, 30))
def test_no_other_token_is_accepted_whatever_it_shares_with_the_key(text: str, length: int) -> None:
    ring = make_ring(KEY)
    token = KEY[:length] + text

    if token == KEY:
        assert ring.identify(token).name == "app0"
    else:
        with pytest.raises(Unauthenticated):
            ring.identify(token)


@pytest.mark.parametrize("token", [None, ""])
def test_a_missing_key_is_told_how_to_send_one(token: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        make_ring(KEY).identify(token)

    assert caught.value.message.startswith("You didn't provide an API key.")
    assert caught.value.status == 401


@pytest.mark.parametrize("token", ["wrong", KEY + "x", KEY[:-1], KEY.upper(), f" {KEY}", "\udcff", "ключ", "x" * 10**6])
def test_every_wrong_key_is_refused_in_the_same_words(token: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        make_ring(KEY).identify(token)

    assert caught.value.envelope()["error"] == {
        "message": "Incorrect API key provided.",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }


@pytest.mark.parametrize("token", [None, "", "anything"])
def test_without_keys_everybody_is_the_anonymous_admin(token: str | None) -> None:
    caller = KeyRing([]).identify(token)

    assert (caller.name, caller.role) == ("anonymous", "admin")
    assert caller.may_use("any/model")


def test_the_ring_keeps_no_key() -> None:
    ring = make_ring(KEY)

    assert KEY not in repr(vars(ring))
    assert KEY.encode() not in repr(vars(ring)).encode()


@pytest.mark.parametrize(
    ("models", "alias", "may"), [(("*",), "x", True), (("a", "b"), "b", True), (("a",), "b", False)]
)
def test_a_caller_may_use_its_models_only(models: tuple[str, ...], alias: str, may: bool) -> None:
    caller = KeyRing([KeySettings(name="app", key=KEY, models=models)]).identify(KEY)

    assert caller.may_use(alias) is may
