"""The twin of a gateway with streams: every connection in memory, every moment decided by a test.

Two kinds, as there are two protocols: one tells whoever listens at that moment and forgets (WAHA), one keeps each event until a receipt
for it comes and resumes (`wants_receipts`, baileys-acessuswpp).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from worker.domain.catalog import Instance
from worker.websocket.port import MAX_FRAME_BYTES, CloseReason, Connection, ConnectionClosed, Frame

REPLAYED = 200
"""Events that a gateway with a memory tells every new reader, acknowledged or not."""


@dataclass(slots=True)
class Troubles:
    """Switches a test may turn at any moment; all off at the start."""

    refuse: ConnectionClosed | None = None
    """What every connect meets."""
    connect_s: float = 0.0
    """How long one takes."""
    is_hushed: bool = False
    """Connections stay, and bring nothing any more, not even an answer to a ping."""
    refuse_receipts: bool = False
    signs: int = 0
    """Of life, that come all at once with the next frame: no turn of the loop lies between them."""


@dataclass(slots=True)
class Kept:
    """An event of a gateway that waits for receipts."""

    frame: Frame
    is_acknowledged: bool = False


@dataclass(slots=True)
class MemoryGateway:
    """The other side: `tell` makes an event, `drop` ends connections. Shared by all workers of a test; each opens a `connector`."""

    gateway: str = "waha"
    transport: str = "websocket"
    wants_receipts: bool = False
    allows_two_readers: bool = True
    replaces: bool = False
    """A second reader takes the place of the first."""
    troubles: Troubles = field(default_factory=Troubles)
    readers: dict[str, list[MemoryConnection]] = field(default_factory=dict)
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    on_receipt: Callable[[str, str], None] = lambda _by, _name: None
    """Told of each call with receipts, at the moment of its write: by whom, of which instance."""
    receipts: list[tuple[str, str]] = field(default_factory=list)
    """(connector's name, event id), in the order they came."""
    given: list[Frame] = field(default_factory=list)
    """What any connection's `receive` answered, in that order."""
    connecting: int = 0
    peak_connecting: int = 0
    connects: list[tuple[float, str]] = field(default_factory=list)
    """(when, gateway instance) of each try."""

    def connector(self, name: str = "a") -> MemoryConnector:
        return MemoryConnector(self, name)

    def tell(self, name: str, body: bytes, event_id: str | None = None) -> int:
        """One event of an instance; answers how many read it. Where receipts are wanted it waits for somebody if nobody does."""
        frame = Frame(body, event_id)
        if self.wants_receipts:
            self.kept.setdefault(name, []).append(Kept(frame))
        return sum([connection.bring(frame) for connection in list(self.readers.get(name, ()))])

    def drop(self, reason: CloseReason = CloseReason.BROKEN, *, name: str | None = None) -> None:
        """Ends connections, one instance's or all."""
        for instance_name in [name] if name is not None else list(self.readers):
            for connection in list(self.readers.get(instance_name, ())):
                connection.end(ConnectionClosed(reason, f"the twin ended it: {reason.value}"))

    def unacknowledged(self, name: str) -> list[Frame]:
        return [kept.frame for kept in self.kept.get(name, ()) if not kept.is_acknowledged]

    def reading(self, name: str) -> int:
        """How many read the instance's stream."""
        return len(self.readers.get(name, ()))

    def acknowledged(self, by: str, name: str, event_ids: Sequence[str]) -> int:
        """How many of these it knows."""
        self.receipts += [(by, event_id) for event_id in event_ids]
        wanted = set(event_ids)
        known = [kept for kept in self.kept.get(name, ()) if kept.frame.event_id in wanted]
        for kept in known:
            kept.is_acknowledged = True
        return len(known)

    def missed(self, name: str, after: str | None) -> list[Frame]:
        """What a new reader is told first: what no receipt came for, and the newest, or all behind `after` where that is among these."""
        kept = self.kept.get(name, [])
        newest = kept[-REPLAYED:]
        ids = [one.frame.event_id for one in newest]
        repeated = newest[ids.index(after) + 1 :] if after in ids else newest
        listed = [one for one in kept[: len(kept) - len(repeated)] if not one.is_acknowledged]
        return [one.frame for one in (*listed, *repeated)]


class MemoryConnector:
    """One worker's way to the gateway; `worker.websocket.port.Connector`."""

    def __init__(self, gateway: MemoryGateway, name: str) -> None:
        self._gateway = gateway
        self._open: set[MemoryConnection] = set()
        self._is_closed = False
        self.name = name

    @property
    def gateway(self) -> str:
        return self._gateway.gateway

    @property
    def transport(self) -> str:
        return self._gateway.transport

    @property
    def wants_receipts(self) -> bool:
        return self._gateway.wants_receipts

    @property
    def allows_two_readers(self) -> bool:
        return self._gateway.allows_two_readers

    async def connect(self, instance: Instance, *, after: str | None, timeout_s: float) -> Connection:
        gateway, name = self._gateway, instance.gateway_instance
        if self._is_closed:
            raise ConnectionClosed(CloseReason.REFUSED, "this connector is closed")
        gateway.connects.append((anyio.current_time(), name))
        gateway.connecting += 1
        gateway.peak_connecting = max(gateway.peak_connecting, gateway.connecting)
        takes_s = gateway.troubles.connect_s
        try:
            with anyio.move_on_after(min(takes_s, timeout_s)):
                await anyio.sleep_forever()
        finally:
            gateway.connecting -= 1
        if takes_s > timeout_s:
            raise ConnectionClosed(CloseReason.TIMEOUT, f"no answer within {timeout_s} s")
        if (refused := gateway.troubles.refuse) is not None:
            raise ConnectionClosed(refused.reason, str(refused), retry_after_s=refused.retry_after_s)
        if gateway.replaces:
            gateway.drop(CloseReason.REPLACED, name=name)
        connection = MemoryConnection(gateway, self.name, name, self._open.discard)
        self._open.add(connection)
        gateway.readers.setdefault(name, []).append(connection)
        for frame in gateway.missed(name, after):
            connection.bring(frame)
        return connection

    async def close(self) -> None:
        self._is_closed = True
        for connection in list(self._open):
            await connection.close()


class MemoryConnection:
    """`worker.websocket.port.Connection`; `bring` and `end` are the gateway's."""

    def __init__(self, gateway: MemoryGateway, reader: str, name: str, on_close: Callable[[MemoryConnection], None]) -> None:
        self._gateway = gateway
        self._reader = reader
        self._name = name
        self._on_close = on_close
        self._waiting: deque[Frame | None] = deque()
        self._ended: ConnectionClosed | None = None
        self._news = anyio.Event()

    def bring(self, frame: Frame | None) -> bool:
        """Whether it will be read."""
        if self._ended is not None or self._gateway.troubles.is_hushed:
            return False
        if frame is not None and len(frame.body) > MAX_FRAME_BYTES:
            self.end(ConnectionClosed(CloseReason.PROTOCOL, f"a frame of {len(frame.body)} bytes; at most {MAX_FRAME_BYTES}"))
            return False
        self._waiting.append(frame)
        self._news.set()
        return True

    def end(self, closed: ConnectionClosed) -> None:
        """No more comes; what has come is still read."""
        if self._ended is None:
            self._ended = closed
            self._gateway.readers[self._name].remove(self)
            self._news.set()

    async def receive(self) -> Frame | None:
        while not self._waiting:
            if self._ended is not None:
                raise ConnectionClosed(self._ended.reason, str(self._ended), retry_after_s=self._ended.retry_after_s)
            self._news = anyio.Event()
            await self._news.wait()
        if self._gateway.troubles.signs > 0:
            self._gateway.troubles.signs -= 1
            return None
        await anyio.lowlevel.checkpoint()  # before it is taken: a reader that is cancelled here has not had it
        frame = self._waiting.popleft()
        if frame is not None:
            self._gateway.given.append(frame)
        return frame

    async def acknowledge(self, event_ids: Sequence[str]) -> int:
        self._gateway.on_receipt(self._reader, self._name)
        await anyio.lowlevel.checkpoint()
        if self._ended is not None and self._ended.reason is not CloseReason.LEFT:
            raise ConnectionClosed(self._ended.reason, str(self._ended))
        if self._gateway.troubles.refuse_receipts:
            raise ConnectionClosed(CloseReason.REFUSED, "the twin takes no receipts now")
        return self._gateway.acknowledged(self._reader, self._name, event_ids)

    async def ping(self) -> None:
        if self._ended is not None:
            raise ConnectionClosed(self._ended.reason, str(self._ended))
        self.bring(None)

    async def leave(self) -> None:
        self.end(ConnectionClosed(CloseReason.LEFT, "we said goodbye"))

    async def close(self) -> None:
        self._waiting.clear()
        self.end(ConnectionClosed(CloseReason.LEFT, "closed"))
        self._on_close(self)
