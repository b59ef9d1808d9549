"""A DNS server on loopback that says what a test wants, and something else the next time it is asked."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, ip_address

import anyio
from anyio.abc import SocketAttribute, UDPSocket

_HEADER = struct.Struct("!6H")
_AUTHORITATIVE_ANSWER, _NO_SUCH_NAME = 0x8580, 0x8583
_INTERNET, _THE_NAME_ASKED = 1, b"\xc0\x0c"


class Kind(IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    AAAA = 28


Zone = Mapping[str, Sequence[Sequence[str]]]
"""name → its answers in turn, the last one again and again; an answer is addresses of both families, or one other name."""


@dataclass(slots=True)
class NameServer:
    port: int
    zone: dict[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    asked: Counter[tuple[str, Kind]] = field(default_factory=Counter)

    def answer(self, query: bytes) -> bytes:
        name, end = _name(query, _HEADER.size)
        kind = Kind(int.from_bytes(query[end : end + 2]))
        turn = self.asked[name, kind]
        self.asked[name, kind] += 1
        turns = self.zone.get(name)
        said = [] if turns is None else turns[min(turn, len(turns) - 1)]
        records = [record for one in said for record in _records(one, kind)]
        status = _NO_SUCH_NAME if turns is None else _AUTHORITATIVE_ANSWER
        nothing = [] if records else [_NOT_TO_BE_REMEMBERED]
        header = _HEADER.pack(int.from_bytes(query[:2]), status, 1, len(records), len(nothing), 0)
        return header + query[_HEADER.size : end + 4] + b"".join([*records, *nothing])


@asynccontextmanager
async def name_server(zone: Zone) -> AsyncIterator[NameServer]:
    """Answers on a free UDP port for as long as the block runs."""
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as listening, anyio.create_task_group() as group:
        serving = NameServer(listening.extra(SocketAttribute.local_port), dict(zone))  # noqa: S610
        group.start_soon(_serve, listening, serving)
        yield serving
        group.cancel_scope.cancel()


async def _serve(listening: UDPSocket, serving: NameServer) -> None:
    async for query, (host, port) in listening:
        await listening.sendto(serving.answer(query), host, port)


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name that begins there, in lower case, and where what follows it begins."""
    labels = []
    while size := message[at]:
        labels.append(message[at + 1 : at + 1 + size].decode().lower())
        at += 1 + size
    return ".".join(labels), at + 1


def _records(said: str, kind: Kind) -> list[bytes]:
    try:
        address = ip_address(said)
    except ValueError:
        return [_record(Kind.CNAME, b"".join(bytes([len(label)]) + label.encode() for label in said.split(".")) + b"\0")]
    found = Kind.A if isinstance(address, IPv4Address) else Kind.AAAA
    return [_record(kind, address.packed)] if found is kind else []


def _record(kind: Kind, data: bytes) -> bytes:
    """Not to be kept: its time to live is 0."""
    return _THE_NAME_ASKED + struct.pack("!HHIH", kind, _INTERNET, 0, len(data)) + data


_NOT_TO_BE_REMEMBERED = _record(Kind.NS, b"\0")
"""c-ares remembers that there is no address for an hour, whatever the SOA says, unless some other record has a shorter life."""
