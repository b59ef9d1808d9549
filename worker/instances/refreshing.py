"""Refreshing what is known of a tenant's instances: asks its brokers, saves what they show, says what failed. Never raises for a broker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio.lowlevel
import structlog

from worker.domain.catalog import Catalog, Instance
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull
from worker.domain.ids import InstanceId, TenantId
from worker.instances.broker import BrokerCause, BrokerFailure, BrokerInstance, InstanceStatus
from worker.instances.calling import Caller
from worker.instances.failures import not_configured
from worker.instances.flights import Flights
from worker.instances.roster import Roster
from worker.instances.snapshots import Sighting, Snapshots
from worker.instances.stages import Outcome, Stage, Stages

log = structlog.get_logger("worker.instances")

REFRESH_S = 10.0
HEALTH_S = 3.0
"""Of the deadline for asking whether the broker is well: one that hangs is known before anybody waits for its list."""

YIELD_EVERY = 256
"""Instances; others' events are served in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """`failure` None: everything was seen. Else the first failure, and what could be seen was saved."""

    failure: BrokerFailure | None = None
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Looks:
    seen: dict[InstanceId, Sighting] = field(default_factory=dict)
    failures: list[BrokerFailure] = field(default_factory=list)
    absent: int = 0


def sighting_of(shown: BrokerInstance) -> Sighting:
    return Sighting(
        status=shown.status, phone_number=shown.phone_number, profile_name=shown.profile_name, last_activity=shown.last_activity
    )


class Refreshing:
    """Single flight per tenant."""

    def __init__(self, catalog: Catalog, roster: Roster, snapshots: Snapshots, stages: Stages, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._roster = roster
        self._snapshots = snapshots
        self._stages = stages
        self._clock = clock
        self._flights: Flights[TenantId, Refreshed] = Flights()

    async def refresh(self, tenant_id: TenantId) -> Refreshed:
        """At most `REFRESH_S`, retries included. Raises `StoreUnavailable` where what was seen could not be saved."""
        return await self._flights.share(tenant_id, lambda: self._timed(tenant_id))

    async def _timed(self, tenant_id: TenantId) -> Refreshed:
        def outcome(refreshed: Refreshed) -> Outcome:
            return Outcome.OK if refreshed.failure is None else Outcome.FAILED

        return await self._stages.timed(tenant_id, Stage.REFRESH, self._refresh(tenant_id), outcome)

    async def _refresh(self, tenant_id: TenantId) -> Refreshed:
        deadline = Deadline("refresh", self._clock() + REFRESH_S)
        by_broker = self._at_brokers(tenant_id)
        looks = _Looks()
        async with anyio.create_task_group() as askers:
            if not by_broker:
                for caller in self._roster.of_tenant(tenant_id):
                    askers.start_soon(self._look_whether_well, caller, deadline, looks)
            for broker_id, instances in by_broker.items():
                found = self._roster.find(tenant_id, broker_id)
                if found is None:
                    looks.failures.append(not_configured(f"brokers[{broker_id}]"))
                else:
                    askers.start_soon(self._look, found, instances, deadline, looks)
        return await self._saved(tenant_id, looks, self._warnings(tenant_id, by_broker, looks))

    def _at_brokers(self, tenant_id: TenantId) -> Mapping[str, Sequence[Instance]]:
        found: dict[str, list[Instance]] = defaultdict(list)
        for instance in self._catalog.instances_page(tenant_id, after="", limit=len(self._catalog.instances)):
            if instance.broker is not None and instance.is_made:
                found[instance.broker].append(instance)
        return found

    async def _look_whether_well(self, caller: Caller, deadline: Deadline, looks: _Looks) -> None:
        """There is nothing to be seen; but whoever wants to create something hears in time why that would fail."""
        try:
            await caller.ask(deadline, lambda left_s: caller.broker.health(timeout_s=min(left_s, HEALTH_S)))
        except BrokerFailure as failure:
            looks.failures.append(failure)

    async def _look(self, caller: Caller, instances: Sequence[Instance], deadline: Deadline, looks: _Looks) -> None:
        async def all_of_them(left_s: float) -> list[BrokerInstance]:
            await caller.broker.health(timeout_s=min(left_s, HEALTH_S))
            return await caller.broker.instances(timeout_s=left_s)

        try:
            shown = {one.name: one for one in await caller.ask(deadline, all_of_them)}
        except BrokerFailure as failure:
            looks.failures.append(failure)
            return
        for number, instance in enumerate(instances):
            if number % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
            found = shown.get(instance.gateway_instance)
            looks.absent += found is None
            looks.seen[instance.id] = Sighting(status=InstanceStatus.UNKNOWN) if found is None else sighting_of(found)

    def _warnings(self, tenant_id: TenantId, by_broker: Mapping[str, Sequence[Instance]], looks: _Looks) -> tuple[str, ...]:
        found = []
        if not by_broker and not self._roster.of_tenant(tenant_id):
            found.append("no broker is configured: these instances only push, and nobody can be asked for their status")
        if looks.absent:
            found.append(f"{looks.absent} instances are not at their broker any more; delete them here, or create them anew")
        return tuple(found)

    async def _saved(self, tenant_id: TenantId, looks: _Looks, warnings: tuple[str, ...]) -> Refreshed:
        # A setting that is missing outweighs whatever else failed: it is the one thing that no snapshot may hide.
        failures = sorted(looks.failures, key=lambda failure: failure.cause is not BrokerCause.NOT_CONFIGURED)
        try:
            await self._snapshots.save(tenant_id, looks.seen, whole=not failures)
        except StoreFull as exc:
            log.warning("snapshot_not_saved", tenant=tenant_id, cause=str(exc))
            warnings += ("the store is full: what the brokers show now could not be kept",)
        return Refreshed(failure=failures[0] if failures else None, warnings=warnings)
