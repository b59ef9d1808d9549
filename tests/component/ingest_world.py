"""Ingest on the twin of the store, without HTTP: the catalog it knows, a gateway with a fault in it, and what the twin then holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson

from worker.adapters.memory_store import MemoryStore
from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.ids import EventKey, InstanceId, Position, Shard, TenantId
from worker.domain.record import Record, decode
from worker.gateways import GATEWAYS
from worker.gateways.port import Decoded, Gateway, Push
from worker.ingest.door import Door, RoomLimits
from worker.ingest.handler import Ingest
from worker.ingest.preparation import Preparation, Stamps
from worker.ingest.reply import Reply
from worker.ingest.segments import SegmentWriter, WriterLimits
from worker.metrics import Metrics

SHARDS = 4
ACME, BETA = TenantId("acme"), TenantId("beta")
SECRET = "a-long-secret-of-acme"
ROOMY = WriterLimits()


def instance(name: str, tenant: TenantId, gateway: str, called: str, **more: Any) -> Instance:
    return Instance(id=InstanceId(name), tenant_id=tenant, gateway=gateway, gateway_instance=called, **more)


CATALOG = Catalog(
    [Tenant(id=ACME), Tenant(id=BETA)],
    [
        instance("sales", ACME, "generic", "sales-phone"),
        instance("support", ACME, "generic", "support-phone"),
        instance("signed", ACME, "generic", "signed-phone", ingest_secrets=("an-older-secret", SECRET)),
        instance("meta", ACME, "cloud-api", "100200300", ingest_verify_token="a-token-of-ours"),
        instance("meta-silent", ACME, "cloud-api", "100200301"),
        instance("foreign", BETA, "generic", "beta-phone"),
        instance("broken", ACME, "broken", "broken-phone", ingest_secrets=()),
        instance("broken-signed", ACME, "broken", "broken-signed", ingest_secrets=(SECRET,)),
    ],
    [],
)


class BrokenGateway:
    """A gateway's module with a fault in it."""

    ACCEPTED_STATUS = 202
    PUBLISHED_SECRETS: frozenset[str] = frozenset()

    @staticmethod
    def verify(push: Push, secrets: Sequence[str]) -> bool:
        raise KeyError(push.headers.get("x-signature"), len(secrets))

    @staticmethod
    def decode(push: Push) -> list[Decoded]:
        return [push.body["data"]]  # type: ignore[call-overload]


@dataclass
class World:
    """Ingest on a twin, and what the twin holds."""

    store: MemoryStore
    ingest: Ingest
    door: Door
    writer: SegmentWriter
    metrics: Metrics = field(repr=False)

    async def push(self, name: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        found = CATALOG.instances.get(InstanceId(name))
        gateway = "generic" if found is None else found.gateway
        return await self.ingest.accept(gateway, name, headers or {"content-type": "application/json"}, data)

    async def records(self) -> list[Record]:
        """All that is in the journal, shard by shard."""
        cursors = {Shard(n): Position(1) for n in range(SHARDS)}
        segments = await self.store.journal.read(cursors, max_segments=10_000, block_s=0)
        return [decode(data) for segment in segments for data in segment.records]


@asynccontextmanager
async def world(
    *, limits: WriterLimits = ROOMY, room: RoomLimits | None = None, gateways: Mapping[str, Gateway] | None = None
) -> AsyncIterator[World]:
    clock = asyncio.get_running_loop().time
    store = MemoryStore(shards=SHARDS, clock=clock)
    metrics = Metrics()
    writer = SegmentWriter(store.journal, SHARDS, clock, observe_append_s=metrics.journal_append_duration.record, limits=limits)
    door = Door(store.room, [Shard(n) for n in range(SHARDS)], room or RoomLimits(max_events=1_000, max_bytes=100 << 20, tenant_share=0.5))
    numbers = iter(range(10_000))
    stamps = Stamps(received_at=lambda: "2026-11-22T07:45:38.300Z", fresh_key=lambda: EventKey(f"ulid:{next(numbers)}"))
    preparation = Preparation(catalog=CATALOG, shards=SHARDS, stamps=stamps)
    ingest = Ingest(preparation, gateways or {**GATEWAYS, "broken": BrokenGateway()}, writer, door, metrics, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        yield World(store, ingest, door, writer, metrics)
        tasks.cancel_scope.cancel()


def told(answer: Reply) -> Any:
    return orjson.loads(answer.body)


def message(key: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "event_key": key, **more}
