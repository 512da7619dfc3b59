"""A port is held for one gateway, whatever comes and goes in it."""

from __future__ import annotations

import contextlib
import socket

import pytest

from gateway.processes.assignment import Assignment
from gateway.processes.listening import Address, PortTaken, listen, reserve, url_of


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def connects(address: Address) -> bool:
    with socket.socket(address.family) as client:
        return client.connect_ex(address.name) == 0


def test_a_host_that_is_none_is_one_line() -> None:
    with pytest.raises(PortTaken, match="Cannot listen on a"):
        reserve("a\0b", 0)


def test_port_zero_becomes_a_real_port_that_is_kept() -> None:
    with contextlib.closing(reserve("127.0.0.1", 0)) as held:
        (address,) = held.addresses

        assert address.port > 0
        assert not connects(address)


def test_several_listeners_share_a_held_port() -> None:
    with contextlib.closing(reserve("127.0.0.1", 0)) as held:
        first, second = listen(held.addresses), listen(held.addresses)

        with first[0]:
            with second[0]:
                pass
            assert connects(held.addresses[0])


def test_a_port_in_use_is_refused_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(PortTaken, match=f"Port {port} on 127.0.0.1 is in use .* --port"):
            reserve("127.0.0.1", port)


def test_another_gateway_on_the_port_is_seen_although_its_workers_share() -> None:
    with contextlib.closing(reserve("127.0.0.1", 0)) as other, listen(other.addresses)[0], pytest.raises(PortTaken):
        reserve("127.0.0.1", other.addresses[0].port)


def test_localhost_is_served_on_every_family_with_one_port() -> None:
    with contextlib.closing(reserve("localhost", 0)) as held:
        listeners = listen(held.addresses)

        with contextlib.ExitStack() as closing:
            for listener in listeners:
                closing.enter_context(listener)
            assert {address.port for address in held.addresses} == {held.addresses[0].port}
            assert all(connects(address) for address in held.addresses)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_host_is_served(host: str) -> None:
    if not has_ipv6():
        with pytest.raises(PortTaken):
            reserve(host, 0)
        return

    with contextlib.closing(reserve(host, 0)) as held:
        listeners = listen(held.addresses)

        with listeners[0]:
            assert connects(held.addresses[0])
        assert url_of(host, held.addresses) == f"http://[::1]:{held.addresses[0].port}"


def test_a_host_that_is_not_this_machine_is_refused() -> None:
    with pytest.raises(PortTaken, match=r"Cannot listen on 192\.0\.2\.1 port 8080"):
        reserve("192.0.2.1", 8080)


def test_a_host_that_cannot_be_a_name_is_refused() -> None:
    with pytest.raises(PortTaken, match="Cannot listen on"):
        reserve("no such host\0", 8080)


def test_the_url_names_the_host_as_it_was_written() -> None:
    assert url_of("127.0.0.1", [Address("127.0.0.1", 8080)]) == "http://127.0.0.1:8080"


def test_an_assignment_survives_its_way_to_the_worker() -> None:
    assignment = Assignment(
        "g.yaml", "a: 1\nb: é\n", None, 0, (Address("::1", 1, 2), Address("127.0.0.1", 1)), "/run/x"
    )

    line = assignment.encode()

    assert line.count(b"\n") == 1
    assert Assignment.decode(line) == assignment
