"""Where a webhook may point."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.destinations import METADATA, Destinations

Networks = tuple[IPv4Network | IPv6Network, ...]
LOOPBACK: Networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
EVERYTHING: Networks = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.mark.parametrize(
    "address",
    [
        *("93.184.215.14", "1.1.1.1", "192.0.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "198.20.0.0"),
        *("192.175.48.1", "223.255.255.255", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2001:200::1", "2001:4860:4860::8888", "2a00::1"),
    ],
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Destinations().refusal(address, 443) is None


@pytest.mark.parametrize("address", ["::ffff:93.184.215.14", "64:ff9b::5db8:d70e"])
def test_a_public_address_is_public_in_the_dress_that_dns64_and_dual_stack_sockets_give_it(address: str) -> None:
    assert Destinations().refusal(address, 443) is None


SPECIAL = {
    "this host": ("0.0.0.0", "0.255.255.255", "::"),  # noqa: S104
    "loopback": ("127.0.0.1", "127.255.255.255", "::1"),
    "private": ("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"),
    "carrier-grade NAT": ("100.64.0.0", "100.127.255.255"),
    "link-local": ("169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "fe80::1%eth0"),
    "site-local": ("fec0::1", "feff::1"),
    "unique local": ("fc00::1", "fdff::1"),
    "protocol assignments": ("192.0.0.1", "192.0.0.9", "192.0.0.10", "192.0.0.170", "192.0.0.255", "2001:1::1", "2001:1ff::1"),
    "documentation": ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff::1"),
    "benchmarks": ("198.18.0.0", "198.19.255.255", "2001:2::1"),
    "multicast": ("224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"),
    "reserved and broadcast": ("240.0.0.1", "255.255.255.254", "255.255.255.255", "4000::1", "8000::1", "3ffe::1", "5f00::1"),
    "discard only": ("100::1", "100:0:0:1::1"),
    "ORCHID": ("2001:10::1", "2001:20::1"),
    "IPv4-mapped": ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0.0.0.0"),
    "IPv4-compatible": ("::127.0.0.1", "::10.0.0.1", "::93.184.215.14"),
    "IPv4-translated": ("::ffff:0:127.0.0.1", "::ffff:0:10.0.0.1"),
    "NAT64": ("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::c0a8:101"),
    "NAT64, local use": ("64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::", "64:ff9b:1::5db8:d70e"),
    "6to4": ("2002:7f00:1::", "2002:a00:1::1", "2002:5db8:d70e::1", "192.88.99.1"),
    "Teredo": ("2001:0:5db8:d70e:0:0:80ff:fffe", "2001::1"),
    "ISATAP": ("2606:2800::5efe:10.0.0.1", "2606:2800::200:5efe:127.0.0.1", "fe80::5efe:93.184.215.14"),
    "no address": ("not an address", "", "127.1", "1.2.3", "0177.0.0.1", "::ffff:127.1", "localhost"),
}


@pytest.mark.parametrize("address", [address for kind in SPECIAL.values() for address in kind])
def test_what_is_not_public_is_refused_in_every_dress(address: str) -> None:
    assert Destinations().refusal(address, 443)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6) | st.integers(0x2000 << 112, (0x2003 << 112) - 1).map(IPv6Address))
@settings(max_examples=500)
def test_what_is_allowed_is_global_by_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    """The other way round it need not be: its tables name fewer ranges, and others in each version."""
    carries = isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in ip_network("64:ff9b::/96"))
    assert address.is_global or carries or Destinations().refusal(str(address), 443)


@given(st.ip_addresses(v=4))
@settings(max_examples=200)
def test_no_dress_of_a_forbidden_address_is_allowed(address: IPv4Address) -> None:
    rule = Destinations()
    if rule.refusal(str(address), 443):
        assert [form for form in dressed(str(address)) if rule.refusal(form, 443) is None] == []


def test_an_allowed_range_opens_exactly_itself() -> None:
    rule = Destinations(allowed_private=LOOPBACK)
    assert rule.refusal("127.0.0.1", 80) is None
    assert rule.refusal("::1", 80) is None
    assert rule.refusal("::ffff:127.0.0.1", 80) is None
    assert rule.refusal("10.0.0.1", 80)
    assert rule.refusal("0.0.0.0", 80), "it arrives at loopback, and is not in the range"  # noqa: S104
    assert rule.refusal("2002:7f00:1::", 80), "a tunnel to a range is not the range"


def test_an_allowed_range_opens_addresses_with_a_zone() -> None:
    assert Destinations(allowed_private=(ip_network("fe80::/10"),)).refusal("fe80::1%eth0", 80) is None


def dressed(ipv4: str) -> list[str]:
    """An IPv4 address in each form of IPv6 that some gateway unwraps."""
    a, b, c, d = (int(part) for part in ipv4.split("."))
    inside = f"{a:02x}{b:02x}:{c:02x}{d:02x}"
    return [
        *(f"{prefix}{inside}" for prefix in ("::", "::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "fd00::5efe:", "fd00::200:5efe:")),
        f"64:ff9b:1:{a:02x}{b:02x}:{c:x}:{d:02x}00::",
        f"64:ff9b:1:{a:x}:{b:x}:{c:02x}{d:02x}::",
        f"64:ff9b:1:0:{a:x}:{b:02x}{c:02x}:{d:02x}00:0",
        f"2002:{inside}::1",
        f"2001:0:{inside}::1",
        f"2001::{a ^ 255:02x}{b ^ 255:02x}:{c ^ 255:02x}{d ^ 255:02x}",
    ]


@pytest.mark.parametrize("address", sorted(str(a) for a in METADATA))
def test_metadata_addresses_stay_forbidden_whatever_the_list(address: str) -> None:
    rule = Destinations(allowed_private=EVERYTHING)
    for form in [address, *(dressed(address) if "." in address else [f"{address}%eth0"])]:
        assert "metadata" in (rule.refusal(form, 80) or ""), form


def test_an_allowed_everything_opens_all_but_metadata() -> None:
    rule = Destinations(allowed_private=EVERYTHING)
    for form in ["10.0.0.1", "0.0.0.0", "::1", "fe80::1%eth0", *dressed("10.0.0.1")]:  # noqa: S104
        assert rule.refusal(form, 80) is None, form


def test_ports_are_refused_at_the_socket_too() -> None:
    rule = Destinations(allowed_ports=(443, 8443))
    assert rule.refusal("93.184.215.14", 8443) is None
    assert rule.refusal("93.184.215.14", 22) == "port 22 is not among delivery.allowed_ports"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "0", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.000.000.001"),
        *("127.0x0.0.1", "00000177.0.0.1", "0x7f.0x0.0x0.0x1", "127.0.0.1.", "127.0.0.1..", "10.1.2.3", "0x0a010203", "3232235777"),
        *("localhost", "localhost.", "a.localhost", "a.b.localhost.", "::1", "::ffff:7f00:1", "fe80::1", "fe80::1%25eth0", "::"),
    ],
)
def test_a_host_at_a_private_address_is_objected_to_in_any_notation(host: str) -> None:
    objection = Destinations().objection(host, 8000)
    assert objection is not None
    assert "private" in objection


@pytest.mark.parametrize(
    "host", ["crm.example.com", "crm.example.com.", "xn--bcher-kva.example", "a_b.example", "notlocalhost", "7.example"]
)
def test_what_a_name_resolves_to_cannot_be_known_in_advance(host: str) -> None:
    assert Destinations().objection(host, 443) is None


def test_localhost_is_no_reason_to_object_where_either_of_its_addresses_is_allowed() -> None:
    assert Destinations(allowed_private=LOOPBACK[1:]).objection("localhost", 80) is None
    assert Destinations(allowed_private=LOOPBACK[:1]).objection("localhost", 80) is None


@pytest.mark.parametrize("host", ["1572394766", "0x5db8d70e", "93.184.55054", "0135.184.215.14", "93.184.215.14."])
def test_a_public_address_is_to_be_written_in_the_one_notation_everybody_reads_alike(host: str) -> None:
    assert Destinations(allowed_private=EVERYTHING).objection(host, 80) == (
        "its host is an address in an odd notation; write it as four decimal numbers"
    )


@pytest.mark.parametrize(
    "host",
    ["256.1.1.1", "1.2.3.4.5", "4294967296", "0b1.0.0.1", "%31%32%37.0.0.1", "127.0.0.1%00.a.example", "a..b", "::127.1", "v1.::1", ""],
)
def test_a_host_that_is_neither_a_name_nor_an_address_is_said_to_be_none(host: str) -> None:
    assert Destinations(allowed_private=EVERYTHING).objection(host, 80) == "its host is neither a name nor an address that exists"


def test_an_objection_names_its_reason_and_never_the_host() -> None:
    rule = Destinations(allowed_ports=(443,))
    assert "metadata" in (rule.objection("169.254.169.254", 443) or "")
    assert rule.objection("secret.example.com", 80) == "port 80 is not among delivery.allowed_ports"
    assert "10.1.2.3" not in (rule.objection("10.1.2.3", 443) or "10.1.2.3")
