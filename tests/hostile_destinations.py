"""Where a webhook of an attacker might point: hosts as they stand in a URL, addresses that a name resolves to, and who listens there."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

LOOPBACK_HOSTS = (
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "localhost", "LOCALHOST", "localhost.", "a.localhost", "A.B.LocalHost."),  # noqa: S104
    # decimal, octal, hexadecimal, short, mixed, padded, with dots behind
    *("127.1", "127.0.1", "0", "2130706433", "017700000001", "0177.0.0.1", "0177.0.0.01", "00000177.0.0.1", "127.000.000.001"),
    *("0x7f000001", "0X7F000001", "0x7f.1", "0x7f.0.0.1", "0x7f.0x0.0x0.0x1", "127.0x0.0.1", "127.0.0.1.", "127.0.0.1.."),
    # digits, letters and dots of other scripts
    *("①②⑦.⓪.⓪.①", "１２７.０.０.１", "１２７．０．０．１", "127。0。0。1", "127｡0｡0｡1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ℓocalhost", "ＬＯＣＡＬＨＯＳＴ"),  # noqa: RUF001
    # what stands before the host, and what only looks like one
    *("user@127.0.0.1", "user:password@127.0.0.1", "crm.example.com@127.0.0.1", "crm.example.com:80@127.1", "%31%32%37.0.0.1"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::]", "[::1%25lo]", "[::1%lo]"),
    # IPv4 inside of IPv6
    *("[::ffff:127.0.0.1]", "[::FFFF:7F00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::80ff:fffe]"),
    *("[fe80::5efe:127.0.0.1]", "[2606:2800::5efe:127.0.0.1]"),
)
"""Forms of this machine: a listener on every address of it hears whoever gets through."""

ELSEWHERE_HOSTS = (
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "167772161", "0x0a000001", "100.64.0.1", "169.254.1.1", "198.18.0.1", "192.0.0.9"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.254.170.2", "100.100.100.200"),
    *("[fd00:ec2::254]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]"),
    *("[fe80::1]", "[fe80::1%25eth0]", "[fec0::1]", "[fc00::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[2001:10::1]", "[3fff::1]"),
    *("256.1.1.1", "1.2.3.4.5", "4294967297", "0b1111111.0.0.1"),
)

HOSTS = LOOPBACK_HOSTS + ELSEWHERE_HOSTS

ADDRESSES = (
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "169.254.1.1", "192.0.0.9"),  # noqa: S104
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.2.1", "198.18.0.1", "203.0.113.1", "192.88.99.1", "224.0.0.1"),
    *("240.0.0.1", "255.255.255.255", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1"),
    *("64:ff9b:1::7f00:1", "2002:7f00:1::", "2001::80ff:fffe", "2001:db8::1", "2001:10::1", "fd00:ec2::254", "fd20:ce::254", "fc00::1"),
    *("fe80::1", "fec0::1", "ff02::1", "100::1", "2606:2800::5efe:127.0.0.1"),
)


def hostile_url(host: str, port: int) -> str:
    return f"http://{host}:{port}/hook?token=a-secret"


EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - the point


@contextmanager
def listening(addresses: Sequence[str] = EVERYWHERE, port: int = 0) -> Iterator[tuple[int, list[socket.socket]]]:
    """A port, the same on each of these addresses; who connects to it stays in the backlog."""
    with ExitStack() as stack:
        made = []
        for address in addresses:
            one = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if one.family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address, port))
            one.listen()
            one.setblocking(False)
            port = one.getsockname()[1]
            made.append(one)
        yield port, made


def connections(listeners: list[socket.socket]) -> int:
    count = 0
    for one in listeners:
        try:
            while True:
                one.accept()[0].close()
                count += 1
        except BlockingIOError:
            pass
    return count
