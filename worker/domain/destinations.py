"""Where a webhook may point: public addresses, and the private ranges an operator has allowed. Pure; resolves nothing.

`allows` is asked with each address before a socket is made, so that neither a name that resolves to something private nor a literal in
an odd notation gets through. `objection` looks at a URL as it is declared, to warn early; it cannot know what a name resolves to.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from unicodedata import normalize
from urllib.parse import urlsplit

METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, and most who copied them
        "169.254.170.2",  # ECS credentials
        "169.254.170.23",  # EKS pod identity
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure wire server
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # EKS pod identity
        "fd20:ce::254",  # Google
    )
)
"""They hand out a machine's credentials to whoever asks from it: forbidden whatever the list of private ranges says."""

_NAT64 = ip_network("64:ff9b::/96")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Destinations:
    """The operator's rule about private ranges and ports."""

    __slots__ = ("_ports", "_private")

    def __init__(self, *, allowed_private: Iterable[IPv4Network | IPv6Network] = (), allowed_ports: Iterable[int] = ()) -> None:
        self._private = tuple(allowed_private)
        self._ports = frozenset(allowed_ports)

    def __repr__(self) -> str:
        return f"<Destinations private={len(self._private)} ports={sorted(self._ports) or 'all'}>"

    def allows(self, address: str) -> bool:
        """Whether a socket may connect to this numeric address, such as `203.0.113.7` or `fe80::1%eth0`; False for anything else."""
        try:
            return self._why_not(ip_address(address)) is None
        except ValueError:
            return False

    def allows_port(self, port: int) -> bool:
        return not self._ports or port in self._ports

    def objection(self, url: str) -> str | None:
        """Why deliveries to this URL will fail, for people, without the URL itself; None where nothing can be said in advance."""
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        if not self.allows_port(port):
            return f"port {port} is not among delivery.allowed_ports"
        host = normalize("NFKC", parts.hostname or "").rstrip(".").lower()
        if host == "localhost" or host.endswith(".localhost"):
            host = "127.0.0.1"
        address = _literal(host)
        if address is not None:
            return self._why_not(address)
        if _ends_in_a_number(host):
            return "its host is neither a name nor an address that exists"
        return None

    def _why_not(self, address: IPv4Address | IPv6Address) -> str | None:
        meant = _inner(address)
        if meant in METADATA:
            return "it points at a cloud's metadata service, which is always forbidden"
        if meant.is_global and not meant.is_multicast:
            return None
        # A literal in the list counts as it is written or as it is meant: `::ffff:127.0.0.1` is 127.0.0.1.
        if any(
            candidate.version == network.version and candidate in network for network in self._private for candidate in {address, meant}
        ):
            return None
        return "it points at a private address; allow its range with delivery.allowed_private_cidrs"


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one carries (mapped, 6to4, Teredo, NAT64), else the address without its zone."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if int(address) >> 32 in {0, int(_NAT64.network_address) >> 32} and int(address) > 1:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return IPv6Address(int(address))


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """An address in any notation that a resolver understands without asking: `127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host)) if host and host.isascii() and " " not in host else None
    except OSError:
        return None


def _ends_in_a_number(host: str) -> bool:
    last = host.rpartition(".")[2]
    return last.isdecimal() or last.startswith("0x")
