"""One instance: its live status, its QR code, logging it out, deleting it. Each asks its broker now, and says so when it fails."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from worker.directory.port import Kind
from worker.directory.registering import Declared, Registrar
from worker.domain.catalog import Catalog, Instance
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull, StoreUnavailable, WorkerError
from worker.domain.ids import TenantId
from worker.instances.broker import InstanceStatus, NoSuchInstance, QrCode
from worker.instances.calling import Caller
from worker.instances.failures import not_configured
from worker.instances.refreshing import sighting_of
from worker.instances.roster import Roster
from worker.instances.snapshots import Sighting, Snapshots

log = structlog.get_logger("worker.instances")

CALL_S = 15.0


class HasNoBroker(WorkerError):
    """Raised when an instance that only pushes is to be asked something."""

    def __init__(self) -> None:
        super().__init__("this instance only pushes its events: it has no broker that could be asked; see its gateway itself")


class NotAtItsBroker(WorkerError):
    """Raised when the broker knows nothing of an instance that we have made there."""

    def __init__(self) -> None:
        super().__init__("its broker does not have this instance (any more); delete it here and create it anew")


class Single:
    """`clock` is monotonic. Whatever asks a broker takes at most `CALL_S` and raises `BrokerFailure`, `HasNoBroker`, `NotAtItsBroker`."""

    def __init__(self, catalog: Catalog, registrar: Registrar, roster: Roster, snapshots: Snapshots, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._registrar = registrar
        self._roster = roster
        self._snapshots = snapshots
        self._clock = clock

    async def find(self, tenant_id: TenantId, instance_id: str) -> Instance | None:
        """The tenant's instance; None also for another tenant's. Raises `StoreUnavailable`."""
        found = await self._registrar.find_instance(instance_id)
        return found if found is not None and found.tenant_id == tenant_id else None

    def is_declared(self, instance: Instance) -> bool:
        return self._catalog.is_declared(instance)

    async def look(self, instance: Instance) -> Sighting:
        """As its broker shows it now; kept as the last that was seen of it. An instance that only pushes: unknown."""
        if instance.broker is None:
            return Sighting(status=InstanceStatus.UNKNOWN)
        caller = self._caller(instance)
        try:
            shown = await caller.ask(
                self._deadline("status"), lambda left_s: caller.broker.status(instance.gateway_instance, timeout_s=left_s)
            )
        except NoSuchInstance as exc:
            raise NotAtItsBroker from exc
        return await self._keep(instance, sighting_of(shown))

    async def qr(self, instance: Instance) -> QrCode | None:
        """None: nothing to scan now."""
        caller = self._caller(instance)
        try:
            return await caller.ask(self._deadline("qr"), lambda left_s: caller.broker.qr(instance.gateway_instance, timeout_s=left_s))
        except NoSuchInstance as exc:
            raise NotAtItsBroker from exc

    async def disconnect(self, instance: Instance) -> Sighting:
        """Logs the number out; the instance stays."""
        caller = self._caller(instance)
        name = instance.gateway_instance
        try:
            await caller.ask(self._deadline("disconnect"), lambda left_s: caller.broker.disconnect(name, timeout_s=left_s))
        except NoSuchInstance as exc:
            raise NotAtItsBroker from exc
        return await self._keep(instance, Sighting(status=InstanceStatus.DISCONNECTED))

    async def delete(self, instance: Instance) -> None:
        """At its broker first, so that nothing is left there that nobody knows of; then here.

        Raises `Declared` before anything is done, `StoreUnavailable`; a broker that fails leaves the row.
        """
        if self._catalog.is_declared(instance):
            raise Declared(Kind.INSTANCE, instance.id)
        if instance.broker is not None:
            caller = self._caller(instance)
            name = instance.gateway_instance
            try:
                await caller.ask(self._deadline("delete"), lambda left_s: caller.broker.delete(name, timeout_s=left_s))
            except NoSuchInstance:
                log.info("deleted_instance_was_not_there", tenant=instance.tenant_id, instance=instance.id)
        await self._registrar.reserve(instance)
        await self._registrar.remove(instance)
        try:
            await self._snapshots.forget(instance.tenant_id, instance.id)
        except StoreUnavailable as exc:
            log.warning("snapshot_not_forgotten", tenant=instance.tenant_id, cause=str(exc))  # it goes with the tenant's snapshot

    def _caller(self, instance: Instance) -> Caller:
        if instance.broker is None:
            raise HasNoBroker
        found = self._roster.find(instance.tenant_id, instance.broker)
        if found is None:
            raise not_configured(f"brokers[{instance.broker}]")
        return found

    def _deadline(self, name: str) -> Deadline:
        return Deadline(name, self._clock() + CALL_S)

    async def _keep(self, instance: Instance, sighting: Sighting) -> Sighting:
        try:
            await self._snapshots.save(instance.tenant_id, {instance.id: sighting}, whole=False)
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("snapshot_not_saved", tenant=instance.tenant_id, cause=str(exc))
        return sighting
