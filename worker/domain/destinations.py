"""Where a webhook may point: public addresses, and the private ranges an operator has allowed. Pure; resolves nothing.

`refusal` is asked with each address before a socket is made, so that neither a name that resolves to something private nor a literal in
an odd notation gets through. `objection` looks at a host as it is declared, to warn early and to end what can never be delivered; it
cannot know what a name resolves to.

Which addresses are public stands here, in full, and is not asked of `ipaddress`: its tables differ between patch versions of Python.

Does not protect against a NAT64 gateway with a prefix of its own that leads into the private network: nothing in the address tells.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, and most who copied them
        "169.254.170.2",  # ECS credentials
        "169.254.170.23",  # EKS pod identity
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure wire server
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # EKS pod identity
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "fd00:a9fe:a9fe::1",  # Akamai (Linode)
        "fe80::a9fe:a9fe",  # OpenStack
    )
)
"""They hand out a machine's credentials to whoever asks from it: forbidden whatever the list of private ranges says."""

_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host: a connect to 0.0.0.0 arrives at loopback
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
"""Everything else of IPv4 is public (IANA special-purpose address registry, RFC 6890)."""

_GLOBAL_V6 = IPv6Network("2000::/3")
"""All that is given out as global unicast; loopback, ULA, link-local, site-local, multicast, discard-only and SRv6 lie outside."""

_SPECIAL_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3ffe::/16",  # what was the 6bone
        "3fff::/20",  # documentation
    )
)

_MAPPED, _NAT64 = IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96")
"""Another way to write, and a road to, the IPv4 address they end in: judged as that one. DNS64 gives out the second."""
_LAST_32 = (_MAPPED, _NAT64, IPv6Network("::/96"), IPv6Network("::ffff:0:0:0/96"))  # and IPv4-compatible, IPv4-translated
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_6TO4, _TEREDO = IPv6Network("2002::/16"), IPv6Network("2001::/32")
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
_32_BITS, _16_BITS, _24_BITS = 0xFFFF_FFFF, 0xFFFF, 0xFF_FFFF

_METADATA = "it points at a cloud's metadata service, which is always forbidden"
_PRIVATE = "it points at a private or reserved address; allow its range with delivery.allowed_private_cidrs"
_ODD = "its host is an address in an odd notation; write it as four decimal numbers"
_NOWHERE = "its host is neither a name nor an address that exists"

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


class Destinations:
    """The operator's rule about private ranges and ports."""

    __slots__ = ("_ports", "_private")

    def __init__(self, *, allowed_private: Iterable[IPv4Network | IPv6Network] = (), allowed_ports: Iterable[int] = ()) -> None:
        self._private = tuple(allowed_private)
        self._ports = frozenset(allowed_ports)

    def __repr__(self) -> str:
        return f"<Destinations private={len(self._private)} ports={sorted(self._ports) or 'all'}>"

    def refusal(self, address: str, port: int) -> str | None:
        """Why no socket may connect to this numeric address, such as `203.0.113.7` or `fe80::1%eth0`, and port; None where it may."""
        try:
            return self._port_refusal(port) or self._address_refusal(ip_address(address))
        except ValueError:
            return _NOWHERE

    def objection(self, host: str, port: int) -> str | None:
        """Why deliveries to this host and port will fail, for people, without naming them; None where nothing can be said in advance.

        `host` as the transport reads it from the URL: ASCII (IDNA) in lower case, an IPv6 address without its brackets.
        """
        return self._port_refusal(port) or self._host_refusal(host)

    def _port_refusal(self, port: int) -> str | None:
        return f"port {port} is not among delivery.allowed_ports" if self._ports and port not in self._ports else None

    def _host_refusal(self, host: str) -> str | None:
        address = _literal(host.rstrip("."))
        if address is not None:
            is_odd = isinstance(address, IPv4Address) and host != str(address)
            return self._address_refusal(address) or (_ODD if is_odd else None)
        if _NAME.fullmatch(host) is None or _ends_in_a_number(host):
            return _NOWHERE
        if f".{host}".removesuffix(".").endswith(".localhost"):
            either = [self._address_refusal(ip_address(loopback)) for loopback in ("127.0.0.1", "::1")]
            return either[0] if all(either) else None
        return None

    def _address_refusal(self, address: IPv4Address | IPv6Address) -> str | None:
        if isinstance(address, IPv6Address):
            address = IPv6Address(int(address))  # without its zone
        carried = _carried(address)
        if not METADATA.isdisjoint({address, *carried}):
            return _METADATA
        meant = carried[0] if address in _MAPPED or address in _NAT64 else address
        if all(_is_public(one) for one in (meant, *carried)):
            return None
        # A range in the list counts for an address as it is written and as it is meant: `::ffff:127.0.0.1` is 127.0.0.1.
        if any(one in network for network in self._private for one in (address, meant)):
            return None
        return _PRIVATE


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in special for special in _SPECIAL_V4)
    return address in _GLOBAL_V6 and not any(address in special for special in _SPECIAL_V6)


def _carried(address: IPv4Address | IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 one leads to, or may, where a gateway on its way unwraps it."""
    if isinstance(address, IPv4Address):
        return ()
    bits = int(address)
    if any(address in prefix for prefix in _LAST_32):
        found = [bits]
    elif address in _NAT64_LOCAL:
        # RFC 6052, 2.2: a prefix of 48, 56, 64 or 96 bits, the address behind it, bits 64 to 71 left out.
        found = [(bits >> 64 & _16_BITS) << 16 | bits >> 40 & _16_BITS, (bits >> 64 & 0xFF) << 24 | bits >> 32 & _24_BITS, bits >> 24, bits]
    elif address in _6TO4:
        found = [bits >> 80]
    elif address in _TEREDO:
        found = [~bits, bits >> 64]  # the client, and the server that introduces it
    else:
        found = [bits] if bits >> 32 & _32_BITS in _ISATAP else []
    return tuple(IPv4Address(one & _32_BITS) for one in found)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """An address in any notation that some resolver understands without asking: `127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host)) if _NAME.fullmatch(host) else None
    except OSError:
        return None


def _ends_in_a_number(host: str) -> bool:
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdecimal() or last.startswith("0x")
