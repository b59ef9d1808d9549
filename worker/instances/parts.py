"""The parts of the instances API, put together over their ports. Wires; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from worker.directory.registering import Registrar
from worker.domain.catalog import Catalog
from worker.domain.ids import InstanceId, TenantId
from worker.instances.broker import Broker
from worker.instances.calling import Caller
from worker.instances.creating import Chance, Creating
from worker.instances.idempotency import Idempotency
from worker.instances.listing import Holders, Listing
from worker.instances.once import Once
from worker.instances.refreshing import Refreshing
from worker.instances.repairing import Clocks, Repairing
from worker.instances.roster import Post, Roster
from worker.instances.single import Single
from worker.instances.snapshots import Snapshots
from worker.instances.stages import Stages
from worker.metrics import Metrics


class Store(Protocol):
    """What the instances API keeps."""

    @property
    def snapshots(self) -> Snapshots: ...
    @property
    def idempotency(self) -> Idempotency: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is not ours to decide: time, chance, who owns which shard, and where gateways reach this deployment."""

    clocks: Clocks
    chance: Chance
    unit_random: Callable[[], float]
    holders: Holders
    owns: Callable[[InstanceId], bool]
    shards: int
    public_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The directory, as this worker knows it and as it changes it."""

    catalog: Catalog
    registrar: Registrar


@dataclass(frozen=True, slots=True)
class Served:
    """An opened broker. `tenant_ids` empty: everybody's."""

    broker: Broker
    tenant_ids: frozenset[TenantId] = frozenset()


class InstanceParts:
    """Built once per worker; `repairing.run` is a loop of the process, the rest is called."""

    def __init__(self, known: Known, store: Store, brokers: Iterable[Served], around: Surroundings, metrics: Metrics) -> None:
        catalog, registrar, clock = known.catalog, known.registrar, around.clocks.monotonic_s
        self.roster = Roster(Post(Caller(one.broker, clock=clock, unit_random=around.unit_random), one.tenant_ids) for one in brokers)
        self.stages = Stages(metrics.instances_operation_duration, clock)
        self.refreshing = Refreshing(catalog, self.roster, store.snapshots, self.stages, clock)
        self.listing = Listing(catalog, store.snapshots, self.refreshing, around.holders, shards=around.shards)
        self.single = Single(catalog, registrar, self.roster, store.snapshots, clock)
        self.creating = Creating(catalog, registrar, self.roster, store.snapshots, around.chance, public_url=around.public_url)
        self.once = Once(store.idempotency, clock)
        self.repairing = Repairing(catalog, registrar, self.roster, self.creating, around.clocks, owns=around.owns)
        metrics.broker_health.watch(self.roster.health)
