"""A gateway with a stream, a connector to it, and hands to make trouble: what the suite of connections runs on."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from tests.contract.hostile_endpoint import CERTIFICATE
from worker.adapters.memory_sockets import MemoryGateway
from worker.adapters.sockets import open_connector
from worker.domain.catalog import Instance
from worker.domain.ids import InstanceId, TenantId
from worker.fake_gateway.server import FakeGateway, Plan, fake_gateway
from worker.fake_gateway.streams import Emitted
from worker.fake_gateway.traffic import Sender, Traffic
from worker.instances.broker import BrokerConfig
from worker.websocket.port import Connection, ConnectionClosed, Connector, Frame

NAME = "acme-sales-1a2b3c4d"
KEY = "fake-gateway-key-of-the-suite"
PATIENCE_S = 30.0
"""More than anything takes on the busiest machine."""


def instance(gateway: str, name: str = NAME) -> Instance:
    return Instance(id=InstanceId(f"our-{name}"), tenant_id=TenantId("acme"), gateway=gateway, gateway_instance=name, broker="main")


def config(gateway: str, url: str, key: str | None = KEY) -> BrokerConfig:
    return BrokerConfig(id="main", gateway=gateway, url=url, api_key=key, timeout_s=PATIENCE_S)


def opened(broker: BrokerConfig, tls: ssl.SSLContext | None = None) -> Connector:
    connector = open_connector(broker, tls=tls)
    assert connector is not None, "this gateway has a stream"
    return connector


class World(ABC):
    """One gateway with one instance, `NAME`, one connector to it, and what a test may make the gateway do."""

    connector: Connector
    is_tls = False

    async def connect(self, after: str | None = None) -> Connection:
        return await self.connector.connect(instance(self.connector.gateway), after=after, timeout_s=PATIENCE_S)

    def emit(self, count: int = 1) -> list[bytes]:
        """Bodies, as sent."""
        return [event.body for event in self.send(count)]

    async def until_readers(self, count: int) -> None:
        """Until the gateway has that many."""
        with anyio.fail_after(PATIENCE_S):
            while self.readers() != count:  # noqa: ASYNC110 - nobody is told when a connection goes
                await anyio.sleep(0.005)  # noqa: TID251

    @property
    def may_keep_the_rest(self) -> bool:
        """Whether leaving may leave something behind: with TLS there is no goodbye but the end, and what has no receipt comes again."""
        return self.is_tls and self.connector.wants_receipts

    @abstractmethod
    def send(self, count: int = 1, *, name: str = NAME) -> list[Emitted]: ...

    @abstractmethod
    def readers(self) -> int: ...

    @abstractmethod
    def silence(self) -> None: ...

    @abstractmethod
    def reset(self) -> None: ...

    @abstractmethod
    def tell(self, event_id: str, body: bytes) -> None: ...


class FakeWorld(World):
    """Over sockets."""

    def __init__(self, fake: FakeGateway, connector: Connector, *, is_tls: bool) -> None:
        self.fake = fake
        self.connector = connector
        self.is_tls = is_tls

    def send(self, count: int = 1, *, name: str = NAME) -> list[Emitted]:
        if name not in self.fake.instances:
            self.fake.instances.make(name)
        return self.fake.emit(name, count)

    def readers(self) -> int:
        return self.fake.readers(NAME)

    def silence(self) -> None:
        self.fake.silence(NAME)

    def reset(self) -> None:
        self.fake.drop_streams(NAME)

    def tell(self, event_id: str, body: bytes) -> None:
        self.fake.streams.tell(NAME, event_id, body)


class TwinWorld(World):
    """In memory."""

    def __init__(self, twin: MemoryGateway) -> None:
        self.twin = twin
        self.connector = twin.connector()
        self._traffic = Traffic(twin.gateway, 1)
        self._count = 0

    def send(self, count: int = 1, *, name: str = NAME) -> list[Emitted]:
        return [self._one(name) for _ in range(count)]

    def _one(self, name: str) -> Emitted:
        self._count += 1
        event_id, body = f"event-{self._count}", self._traffic.next_push(Sender(gateway_instance=name), self._count).body
        return Emitted(name, event_id, body, self.twin.tell(name, body, event_id if self.twin.wants_receipts else None))

    def readers(self) -> int:
        return self.twin.reading(NAME)

    def silence(self) -> None:
        self.twin.troubles.is_hushed = True

    def reset(self) -> None:
        self.twin.drop(name=NAME)

    def tell(self, event_id: str, body: bytes) -> None:
        self.twin.tell(NAME, body, event_id)


@asynccontextmanager
async def world(gateway: str, *, is_tls: bool = False, ping_s: float | None = None) -> AsyncIterator[FakeWorld]:
    server, client = _tls() if is_tls else (None, None)
    async with fake_gateway(Plan(gateway=gateway, api_key=KEY, tls=server, ping_s=ping_s)) as fake:
        fake.instances.make(NAME)
        connector = opened(config(gateway, fake.url), client)
        try:
            yield FakeWorld(fake, connector, is_tls=is_tls)
        finally:
            with anyio.move_on_after(PATIENCE_S, shield=True):
                await connector.close()


@asynccontextmanager
async def twin_world(gateway: str) -> AsyncIterator[TwinWorld]:
    kinds = {"waha": MemoryGateway(), "baileys": MemoryGateway(gateway="baileys", transport="sse", wants_receipts=True)}
    here = TwinWorld(kinds[gateway])
    yield here
    await here.connector.close()


WORLDS: Mapping[str, Callable[[], AbstractAsyncContextManager[World]]] = {
    "waha": lambda: world("waha"),
    "waha-tls": lambda: world("waha", is_tls=True),
    "baileys": lambda: world("baileys"),
    "baileys-tls": lambda: world("baileys", is_tls=True),
    "twin-waha": lambda: twin_world("waha"),
    "twin-baileys": lambda: twin_world("baileys"),
}


async def frames(connection: Connection, count: int) -> list[Frame]:
    """The next `count`, whatever signs of life are between them."""
    found: list[Frame] = []
    with anyio.fail_after(PATIENCE_S):
        while len(found) < count:
            if (frame := await connection.receive()) is not None:
                found.append(frame)
    return found


async def until_closed(connection: Connection) -> tuple[list[Frame], ConnectionClosed]:
    """What still comes, and the end."""
    found: list[Frame] = []
    try:
        with anyio.fail_after(PATIENCE_S):
            while True:
                if (frame := await connection.receive()) is not None:
                    found.append(frame)
    except ConnectionClosed as closed:
        return found, closed


async def refusal(connector: Connector, after: str | None = None, timeout_s: float = PATIENCE_S) -> ConnectionClosed:
    """Why there is no connection: told at once, or by its first words."""
    connection = None
    try:
        connection = await connector.connect(instance(connector.gateway), after=after, timeout_s=timeout_s)
        found, closed = await until_closed(connection)
    except ConnectionClosed as refused:
        return refused
    finally:
        if connection is not None:
            with anyio.move_on_after(PATIENCE_S, shield=True):
                await connection.close()
    assert found == []
    return closed


def bodies(found: Sequence[Frame]) -> list[bytes]:
    return [frame.body for frame in found]


def assert_tells_nothing(closed: ConnectionClosed, *secrets: str) -> None:
    """Cause and next step, and neither key, address nor name."""
    said = f"{closed} {closed!r}"
    assert ";" in str(closed), "the next step is missing"
    assert not [word for word in (KEY, NAME, "://", "x-api-key", *secrets) if word in said]


def _tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATE)
    return server, ssl.create_default_context(cafile=str(CERTIFICATE))
