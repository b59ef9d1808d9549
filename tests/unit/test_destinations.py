"""Where a webhook may point."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from worker.domain.destinations import METADATA, Destinations

LOOPBACK: tuple[IPv4Network | IPv6Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert Destinations().allows(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "0.0.0.0"),  # noqa: S104
        *("224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "not an address", ""),
        *("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:10.0.0.1"),
    ],
)
def test_private_addresses_are_forbidden_in_every_dress(address: str) -> None:
    assert not Destinations().allows(address)


def test_an_allowed_range_opens_exactly_itself() -> None:
    rule = Destinations(allowed_private=LOOPBACK)
    assert rule.allows("127.0.0.1")
    assert rule.allows("::1")
    assert rule.allows("::ffff:127.0.0.1")
    assert not rule.allows("10.0.0.1")


@pytest.mark.parametrize("address", sorted(str(a) for a in METADATA))
def test_metadata_addresses_stay_forbidden_whatever_the_list(address: str) -> None:
    assert not Destinations(allowed_private=(ip_network("0.0.0.0/0"), ip_network("::/0"))).allows(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "localhost", "LOCALHOST."),
        *("a.localhost", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1.", "１２７.０.０.１", "10.1.2.3", "[fe80::1]"),  # noqa: RUF001
    ],
)
def test_a_url_at_a_private_address_is_objected_to_in_any_notation(host: str) -> None:
    objection = Destinations().objection(f"http://{host}:8000/hook")
    assert objection is not None
    assert "private" in objection


def test_what_a_name_resolves_to_cannot_be_known_in_advance() -> None:
    assert Destinations().objection("https://crm.example.com/hook") is None


def test_an_objection_names_its_reason_and_never_the_url() -> None:
    rule = Destinations(allowed_ports=(443,))
    assert "metadata" in (rule.objection("https://169.254.169.254/latest") or "")
    assert rule.objection("http://crm.example.com/secret-path") == "port 80 is not among delivery.allowed_ports"
    assert rule.objection("https://256.1.1.1/secret-path") == "its host is neither a name nor an address that exists"
