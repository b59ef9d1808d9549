"""The parts of the instances API over the store's twin and brokers in memory, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import anyio

from tests.component.broker_twin import BrokerTwin
from worker.adapters.memory_store import MemoryStore
from worker.directory.registering import Registrar
from worker.directory.replica import Replica
from worker.domain.catalog import Catalog, Instance, Tenant
from worker.domain.deadline import Deadline
from worker.domain.ids import InstanceId, OwnerId, Shard, TenantId, shard_of
from worker.instances import naming
from worker.instances.creating import CREATE_S, Chance, Order, Plan
from worker.instances.parts import InstanceParts, Known, Served, Surroundings
from worker.instances.repairing import Clocks
from worker.metrics import Metrics

ACME, OTHER = TenantId("acme"), TenantId("other")
SHARDS = 2


def declared(instance_id: str, *, broker: str | None = "main", tenant: TenantId = ACME) -> Instance:
    """One of the file's; at its broker it has the same name."""
    return Instance(id=InstanceId(instance_id), tenant_id=tenant, gateway="waha", gateway_instance=instance_id, broker=broker)


async def later(seconds: float) -> None:
    """Virtual time goes by."""
    await anyio.sleep(seconds)  # noqa: TID251 -- virtual time


class Worker:
    """One worker's parts. Several over one `store` share what is kept; `brokers` may be shared too."""

    def __init__(self, store: MemoryStore, brokers: Sequence[BrokerTwin], *instances: Instance, seed: int = 1) -> None:
        clock = asyncio.get_running_loop().time
        chance = random.Random(seed)
        self.age_s = 0.0
        """What every row's age is said to be by the wall clock."""
        self.owned = {Shard(number) for number in range(SHARDS)}
        self.catalog = Catalog([Tenant(id=ACME), Tenant(id=OTHER)], instances, [])
        self.registrar = Registrar(store.directory, Replica(self.catalog), clock)
        self.metrics = Metrics()
        around = Surroundings(
            clocks=Clocks(monotonic_s=clock, age_s=lambda _at: self.age_s),
            chance=Chance(text=lambda n: "".join(chance.choices(naming.ALPHABET, k=n)), now=lambda: "2026-11-22T07:45:38.120Z"),
            unit_random=chance.random,
            holders=self.holders,
            owns=lambda instance_id: shard_of(instance_id, SHARDS) in self.owned,
            shards=SHARDS,
            public_url=None,
        )
        served = [Served(broker) for broker in brokers]
        self.parts = InstanceParts(Known(catalog=self.catalog, registrar=self.registrar), store, served, around, self.metrics)
        self._clock = clock

    async def holders(self, shards: Sequence[Shard]) -> dict[Shard, OwnerId]:
        return dict.fromkeys(shards, OwnerId("worker-1"))

    def plan(self, order: Order) -> Plan:
        return self.parts.creating.plan(order, spare={})

    async def create(self, order: Order, plan: Plan | None = None) -> Instance:
        return await self.parts.creating.create(order, plan or self.plan(order), Deadline("create", self._clock() + CREATE_S))


def order(name: str = "Vendas", **facts: object) -> Order:
    return Order(tenant_id=ACME, name=name, gateway="waha", **facts)  # type: ignore[arg-type]
