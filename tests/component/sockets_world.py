"""Streams on twins, without an engine: a scripted gateway, the sessions of one worker, a journal, and who owns what as the test says."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
from structlog.testing import capture_logs

from tests.component.rig import ACME, BROKER, WALL_AT_ZERO_S, instance, now_s, received_at, until
from worker.adapters.memory_sockets import MemoryGateway
from worker.adapters.memory_store import MemoryStore
from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.ids import EventKey, InstanceId, Position, Shard, shard_of
from worker.domain.record import Record, decode
from worker.gateways import GATEWAYS
from worker.ingest.door import Door, RoomLimits
from worker.ingest.handler import Ingest
from worker.ingest.preparation import Preparation, Stamps
from worker.ingest.segments import SegmentWriter, WriterLimits
from worker.metrics import Metrics
from worker.orchestrator.streams import Read, StreamLimits, Streams
from worker.websocket.chronicle import Clocks
from worker.websocket.session import Session
from worker.websocket.states import State

SHARDS = 4
ROOMY = RoomLimits(max_events=1_000_000, max_bytes=1 << 30, tenant_share=1.0)


def keeps_events(**more: Any) -> MemoryGateway:
    """A gateway that wants a receipt for each event, and resumes."""
    return MemoryGateway(gateway="generic", transport="sse", wants_receipts=True, **more)


def forgets(**more: Any) -> MemoryGateway:
    """A gateway that tells whoever reads at that moment, and nobody later."""
    return MemoryGateway(gateway="generic", **more)


@dataclass
class SocketsWorld:
    """One worker's streams. `owned`: the shards whose lease it can prove; `own` and `abort` also tell the orchestrator."""

    gateway: MemoryGateway
    catalog: Catalog
    store: MemoryStore
    streams: Streams
    metrics: Metrics
    door: Door
    logs: list[Any]
    owned: set[Shard]
    number: int = 0
    told: list[str] = field(default_factory=list)
    """Texts of all events told, in order."""

    # -- owning --------------------------------------------------------------------------------------------------------

    def own(self, *shards: int) -> None:
        for shard in shards or range(SHARDS):
            self.owned.add(Shard(shard))
            self.streams.orchestrator.own(Shard(shard))

    def abort(self, *shards: int) -> None:
        for shard in shards or range(SHARDS):
            self.owned.discard(Shard(shard))
            self.streams.orchestrator.abort(Shard(shard))

    async def reading(self, *names: str) -> None:
        """Until each of these instances, or all, is read by somebody."""
        wanted = names or [one.gateway_instance for one in self.catalog.instances.values()]
        await until(lambda: all(self.gateway.reading(name) for name in wanted), within_s=200, what="all are read")

    # -- events --------------------------------------------------------------------------------------------------------

    def tell(self, count: int = 1, name: str = "phone-0") -> list[str]:
        """Texts of the events that an instance's gateway told now."""
        texts = []
        for _ in range(count):
            self.number += 1
            texts.append(f"e{self.number}")
            body = orjson.dumps({"type": "message", "event_key": texts[-1], "text": texts[-1]})
            self.gateway.tell(name, body, texts[-1] if self.gateway.wants_receipts else None)
        self.told += texts
        return texts

    async def records(self) -> list[Record]:
        """All that is in the journal, shard by shard."""
        cursors = {Shard(n): Position(1) for n in range(SHARDS)}
        segments = await self.store.journal.read(cursors, max_segments=10_000, block_s=0)
        return [decode(data) for segment in segments for data in segment.records]

    async def texts(self) -> list[str]:
        return [str(record.envelope["text"]) for record in await self.records()]

    async def journalled(self, texts: list[str], *, within_s: float = 30.0) -> None:
        """Until these are in the journal, in this order within their shard."""
        ends_s = now_s() + within_s
        while set(texts) - set(found := await self.texts()):
            assert now_s() < ends_s, f"not journalled within {within_s} s: {set(texts) - set(found)}"
            with anyio.move_on_after(0.05):
                await anyio.sleep_forever()

    def receipts(self) -> list[str]:
        return [event_id for _, event_id in self.gateway.receipts]

    # -- looking -------------------------------------------------------------------------------------------------------

    def session(self, name: str = "i0") -> Session | None:
        running = self.streams.sessions._running.get(InstanceId(name))  # noqa: SLF001 -- a state has no other door
        return None if running is None else running.session

    def state(self, name: str = "i0") -> State:
        session = self.session(name)
        return State.LEFT if session is None else session.state

    async def comes_to(self, state: State, name: str = "i0", *, within_s: float = 30.0) -> None:
        await until(lambda: self.state(name) is state, within_s=within_s, what=f"{name} is {state.value}")

    def lines(self, event: str) -> list[Any]:
        return [line for line in self.logs if line["event"] == event]

    def gaps(self) -> list[Any]:
        return self.lines("stream_gap")


@asynccontextmanager
async def sockets_world(
    gateway: MemoryGateway,
    *,
    instances: int = 1,
    limits: StreamLimits | None = None,
    writing: WriterLimits = WriterLimits(),  # noqa: B008
) -> AsyncIterator[SocketsWorld]:
    """Nothing is owned yet. At the end the process ends, however it stands."""
    chance = random.Random(7).random
    catalog = Catalog([Tenant(id=ACME)], [instance(n, broker=BROKER) for n in range(instances)], [])
    store = MemoryStore(shards=SHARDS, clock=now_s, epoch_s=WALL_AT_ZERO_S)
    metrics, owned = Metrics(), set[Shard]()
    writer = SegmentWriter(store.journal, SHARDS, now_s, limits=writing)
    door = Door(store.room, [Shard(n) for n in range(SHARDS)], ROOMY)
    stamps = Stamps(received_at=received_at, fresh_key=lambda: EventKey(f"ulid:{chance()}"))
    ingest = Ingest(Preparation(catalog=catalog, shards=SHARDS, stamps=stamps), GATEWAYS, writer, door, metrics, now_s)
    read = Read(
        catalog=catalog,
        shards=SHARDS,
        connectors={BROKER: gateway.connector()},
        frames=ingest.frames,
        resume_points=store.resume_points,
        owns=owned.__contains__,
    )
    clocks = Clocks(monotonic_s=now_s, unit_random=chance, wall=received_at)
    with capture_logs() as logs:
        streams = Streams(read, clocks, metrics, limits or StreamLimits())
        async with anyio.create_task_group() as loops:
            loops.start_soon(writer.run)
            await loops.start(door.run)
            await loops.start(streams.sessions.run)
            loops.start_soon(streams.orchestrator.run)
            yield SocketsWorld(gateway, catalog, store, streams, metrics, door, logs, owned)
            loops.cancel_scope.cancel()


def shard_number(name: str = "i0") -> Shard:
    return shard_of(InstanceId(name), SHARDS)


def another(number: int, **more: Any) -> Instance:
    """An instance that is registered at run time."""
    return instance(number, broker=BROKER, **more)
