"""A cache of contacts over the store's twin and brokers in memory, in virtual time, alone or in an engine; and events for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from tests.component.broker_twin import BrokerTwin
from tests.component.rig import Rig, Worker, now_s, pass_time
from worker.adapters.memory_store import MemoryStore
from worker.contact_metadata_cache.asking import Asking
from worker.contact_metadata_cache.cache import ContactMetadataCache
from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.contact import Contact
from worker.domain.deadline import Deadline
from worker.domain.event import Event, EventType
from worker.domain.ids import EventKey, InstanceId, TenantId
from worker.domain.record import Record, decode, encode
from worker.engine import Engine
from worker.instances.calling import Caller
from worker.instances.roster import Post, Roster
from worker.metrics import Metrics

ACME = TenantId("acme")
PATIENCE_S = 0.25
ANA, BOB = "5511900000001@s.whatsapp.net", "5511900000002@s.whatsapp.net"
URL = "https://pps.example.com/ana.jpg"


def event(
    sender: str | None = ANA, *, instance: str = "sales", name: str | None = None, from_me: bool = False, chat: str | None = None
) -> Record:
    made = Event(
        event_key=EventKey("e"),
        gateway="waha",
        transport="webhook",
        tenant_id=ACME,
        instance_id=InstanceId(instance),
        gateway_instance=instance,
        type=EventType.MESSAGE,
        sender_id=sender,
        chat_id=chat,
        from_me=from_me,
        push_name=name,
        received_at="2026-11-22T07:45:38.300Z",
        raw=b"{}",
    )
    return decode(encode(made))


def person(number: int) -> str:
    return f"55119{number:08d}@s.whatsapp.net"


class World:
    """One worker's cache over `store`; several worlds over one store are several workers."""

    def __init__(self, store: MemoryStore, brokers: Sequence[BrokerTwin]) -> None:
        self.metrics = Metrics()
        self.callers = [Caller(broker, clock=now_s, unit_random=lambda: 0.5) for broker in brokers]
        named = {"sales": "main", "desk": "main", "shop": "main", "other": "second", "silent": None, "lost": "nobody"}
        named |= {f"i{number}": "main" for number in range(20)}
        rows = [Instance(id=InstanceId(i), tenant_id=ACME, gateway="waha", gateway_instance=i, broker=b) for i, b in named.items()]
        self.catalog = Catalog([Tenant(id=ACME)], rows, [])
        self.asking = Asking(
            self.catalog,
            Roster(Post(caller) for caller in self.callers),
            now_s,
            self.metrics.contact_metadata_cache_fetch_duration.record,
        )
        self.cache = ContactMetadataCache(store.contacts, self.asking, now_s, self.metrics.contact_metadata_cache_lookups)

    async def contact(self, record: Record | None = None, *, within_s: float = PATIENCE_S) -> Contact | None:
        return await self.cache.contact(record or event(), Deadline("enrich", now_s() + within_s))

    @property
    def lookups(self) -> Counter[str]:
        return Counter({result: count for (result,), count in self.metrics.contact_metadata_cache_lookups.cells.items()})


@asynccontextmanager
async def world(store: MemoryStore, *brokers: BrokerTwin) -> AsyncIterator[World]:
    made = World(store, brokers)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.cache.run)
        await pass_time(0.001)
        yield made
        tasks.cancel_scope.cancel()


def hang(broker: BrokerTwin) -> anyio.Event:
    """From now on its picture endpoint never answers, until the event is set."""
    released = anyio.Event()

    async def wait(_call: str) -> None:
        await released.wait()

    broker.before = wait
    return released


def with_contacts(it: Rig, broker: BrokerTwin) -> Callable[[Engine], None]:
    def equip(engine: Engine) -> None:
        caller, metrics = Caller(broker, clock=now_s, unit_random=lambda: 0.5), engine.metrics
        asking = Asking(engine.catalog, Roster([Post(caller)]), now_s, metrics.contact_metadata_cache_fetch_duration.record)
        engine.contacts = ContactMetadataCache(it.store.contacts, asking, now_s, metrics.contact_metadata_cache_lookups)

    return equip


async def owning_contacts(it: Rig, broker: BrokerTwin, name: str = "a", **more: Any) -> Worker:
    """A worker that holds every shard and knows contacts; its instances are the broker's."""
    rows = [
        Instance(id=i.id, tenant_id=ACME, gateway="generic", gateway_instance=i.gateway_instance, broker="main")
        for i in it.catalog.instances.values()
    ]
    catalog = Catalog([Tenant(id=ACME)], rows, it.catalog.webhooks.values())
    return await it.owning(name, catalog=catalog, equip=with_contacts(it, broker), **more)
