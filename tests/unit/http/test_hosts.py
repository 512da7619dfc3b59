"""Which Host names are answered: addresses and loopback names always, others only where they are configured."""

from __future__ import annotations

import pytest

from gateway.http import Hosts

ALWAYS = [
    "localhost",
    "localhost:8080",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "127.0.0.1",
    "127.0.0.1:8080",
    "[::1]",
    "[::1]:8080",
    "192.168.1.20:8080",
    "10.0.0.1",
    "[fe80::1]",
    "localhost:",
]
NAMED = ["models.lan", "models.lan:8080", "MODELS.LAN", "models.lan."]
NEVER = [
    "",
    ":",
    ":8080",
    "localhost:80x",
    "localhost:-1",
    "localhost:8080:8080",
    "localhost/",
    "localhost?x",
    "localhost#x",
    "localhost@evil.test",
    "user@localhost",
    "localhost evil.test",
    "localhost,evil.test",
    "[::1",
    "::1",
    "[localhost]:x",
    "[evil.test]",
    "127.0.0.1.evil.test/",
    "http://localhost",
    "localhost\\@evil.test",
]
FOREIGN = [
    "127.1",
    "0x7f000001",
    "2130706433",
    "evil.test",
    "127.0.0.1.evil.test",
    "localhost.evil.test",
    "notlocalhost",
    "models.lan.evil.test",
    "xmodels.lan",
]
CONFIGURED = ["Models.lan."]


@pytest.mark.parametrize("host", ALWAYS)
def test_addresses_and_loopback_names_are_always_answered(host: str) -> None:
    assert Hosts().allows(host)


@pytest.mark.parametrize("host", NAMED)
def test_a_name_is_answered_where_it_is_configured(host: str) -> None:
    assert Hosts(CONFIGURED).allows(host)
    assert not Hosts().allows(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_answered_only_where_every_name_is(host: str) -> None:
    assert not Hosts(CONFIGURED).allows(host)
    assert Hosts(any_name=True).allows(host)


@pytest.mark.parametrize("host", NEVER)
def test_what_is_no_host_is_never_answered(host: str) -> None:
    assert not Hosts(CONFIGURED).allows(host)
    assert not Hosts(CONFIGURED, any_name=True).allows(host)
