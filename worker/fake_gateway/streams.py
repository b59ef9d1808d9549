"""Who reads a fake gateway's events over an open connection, and what becomes of one event there. Speaks no gateway's language.

Everything is written at once and never waited for, as the real ones do it: whether somebody was connected when an event was sent has
one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import anyio

from worker.fake_gateway.troubles import abort

EVERYBODY = "*"
MAX_UNREAD_BYTES = 64 << 20
"""Of one reader; one that lets more than this pile up is thrown out."""


class Emitted(NamedTuple):
    """One event that was sent. `readers`: how many were connected and heard of it; with none, a gateway without a store has lost it."""

    instance: str
    id: str
    body: bytes
    readers: int


class Stream(Protocol):
    """What a dialect with a stream does with an event. `ping_s`: how often its server pings its readers."""

    ping_s: float

    def emit(self, instance: str, body: bytes) -> Emitted: ...


class Reader:
    """One open connection, for one instance or for `EVERYBODY`. Its dialect says how things are written."""

    def __init__(self, instance: str, transport: asyncio.Transport) -> None:
        self.instance = instance
        self.gone = anyio.Event()
        """Set when the gateway has no further business with it."""
        self._transport = transport
        self._is_silent = False
        self._has_closed = False

    @property
    def is_heard(self) -> bool:
        """Whether what is written goes anywhere."""
        return not (self._is_silent or self._has_closed or self._transport.is_closing())

    @property
    def is_there(self) -> bool:
        return not self._transport.is_closing()

    @property
    def door(self) -> int:
        """The port that it came to: a gateway may listen on several."""
        return port_of(self._transport)

    def hang_up(self) -> None:
        """The connection goes, after what is written."""
        self._transport.close()

    def wants(self, event: bytes) -> bool:  # noqa: ARG002 - a dialect's business
        """Whether it asked for events like this one."""
        return True

    def tell(self, event_id: str, body: bytes) -> None:
        raise NotImplementedError

    def ping(self) -> None:
        raise NotImplementedError

    def goodbye(self, code: int, text: str) -> bytes:
        """What the gateway's language has for a goodbye; code and text where it has them."""
        raise NotImplementedError

    def close(self, code: int = 1001, text: str = "") -> None:
        """The gateway says goodbye; what is written already still arrives."""
        if self.is_heard:
            self.write(self.goodbye(code, text))
            self._has_closed = True
        self.gone.set()

    def drop(self) -> None:
        """Resets the connection."""
        abort(self._transport)
        self.gone.set()

    def silence(self) -> None:
        """Nothing is sent and nothing is read any more, and the connection stays."""
        self._is_silent = True
        self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.drop()


class Readers:
    """All readers of one fake gateway. `is_exclusive`: a new reader of an instance takes the place of those before it."""

    def __init__(self) -> None:
        self.is_exclusive = False
        self._by_instance: dict[str, set[Reader]] = {}

    def __iter__(self) -> Iterator[Reader]:
        return iter([reader for readers in self._by_instance.values() for reader in readers])

    def of(self, instance: str) -> list[Reader]:
        """Those of this instance and of everybody who are there."""
        found = (reader for name in (instance, EVERYBODY) for reader in self._by_instance.get(name, ()))
        return [reader for reader in found if reader.is_there]

    def add(self, reader: Reader) -> None:
        if self.is_exclusive:
            for older in self.of(reader.instance):
                older.close(1008, "replaced by another connection")
        self._by_instance.setdefault(reader.instance, set()).add(reader)

    def discard(self, reader: Reader) -> None:
        readers = self._by_instance.get(reader.instance, set())
        readers.discard(reader)
        if not readers:
            self._by_instance.pop(reader.instance, None)

    def tell(self, instance: str, event_id: str, body: bytes) -> int:
        """To all who want it; answers how many heard of it."""
        hearing = [reader for reader in self.of(instance) if reader.is_heard and reader.wants(body)]
        for reader in hearing:
            reader.tell(event_id, body)
        return len(hearing)

    def ping(self) -> None:
        for reader in self:
            if reader.is_heard:
                reader.ping()
            elif not reader.is_there:
                reader.gone.set()

    def close(self) -> None:
        """The gateway goes: all are told, and those that hear nothing are dropped."""
        for reader in self:
            reader.close() if reader.is_heard else reader.drop()


def port_of(transport: asyncio.Transport | None) -> int:
    """The server's own, of one of its connections; 0 of none."""
    return 0 if transport is None else int(transport.get_extra_info("sockname")[1])
