"""Half-made rows, looked at again: a worker may have died between its row and the broker's answer.

Each worker looks at the rows of the shards it owns, so one looks. What the broker has is made; what it does not have is left for whoever
repeats the call with its key, and forgotten when no key can be left. Only names from our own rows are ever asked about, and nothing is
deleted at a broker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import structlog

from worker.directory.port import RowConflict
from worker.directory.registering import Registrar
from worker.domain.catalog import Catalog, Instance, Row
from worker.domain.deadline import Deadline
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import InstanceId
from worker.instances.broker import BrokerFailure, NoSuchInstance
from worker.instances.creating import Creating, Refused
from worker.instances.idempotency import KEPT_S
from worker.instances.roster import Roster

log = structlog.get_logger("worker.instances")

LOOK_EVERY_S = 15.0
LEFT_ALONE_S = 60.0
"""Longer than any call that could still be making it: as long as this worker has known it, by its own clock."""
ASK_S = 10.0
FORGOTTEN_AFTER_S = KEPT_S
"""By the wall clock, which the row's `created_at` is of: no key is kept for longer, so nobody can go on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """`age_s`: of an RFC 3339 time, by the wall clock."""

    monotonic_s: Callable[[], float]
    age_s: Callable[[str], float]


class Repairing:
    """`run` until cancelled. `owns` says whether this worker owns the instance's shard now."""

    def __init__(
        self,
        catalog: Catalog,
        registrar: Registrar,
        roster: Roster,
        creating: Creating,
        clocks: Clocks,
        *,
        owns: Callable[[InstanceId], bool],
    ) -> None:
        self._registrar = registrar
        self._roster = roster
        self._creating = creating
        self._clocks = clocks
        self._owns = owns
        self._half_made: dict[InstanceId, tuple[Instance, float]] = {}
        """With when this worker heard of it."""
        catalog.on_change.append(self._note)
        self._catalog = catalog
        for instance in catalog.instances.values():
            self._note(instance)

    async def run(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Once through what is half-made and old enough."""
        now_s = self._clocks.monotonic_s()
        due = [row for row, since_s in self._half_made.values() if now_s - since_s >= LEFT_ALONE_S and self._owns(row.id)]
        for instance in due:
            try:
                await self._repair(instance)
            except BrokerFailure as failure:
                log.warning("half_made_instance_waits", tenant=instance.tenant_id, instance=instance.id, cause=failure.cause.value)
            except (StoreUnavailable, StoreFull, RowConflict, Refused) as exc:
                log.warning("half_made_instance_waits", tenant=instance.tenant_id, instance=instance.id, cause=str(exc))

    async def _repair(self, instance: Instance) -> None:
        caller = self._roster.find(instance.tenant_id, instance.broker or "")
        if caller is None:
            return  # its broker is not configured (any more): nobody to ask, and nothing to be sure of
        deadline = Deadline("repair", self._clocks.monotonic_s() + ASK_S)
        name = instance.gateway_instance
        try:
            shown = await caller.ask(deadline, lambda left_s: caller.broker.status(name, timeout_s=left_s))
        except NoSuchInstance:
            if self._clocks.age_s(instance.created_at or "") >= FORGOTTEN_AFTER_S:
                await self._registrar.remove(instance)
                log.info("half_made_instance_forgotten", tenant=instance.tenant_id, instance=instance.id)
            return
        await self._creating.finished(instance, shown, caller, deadline)
        log.info("half_made_instance_finished", tenant=instance.tenant_id, instance=instance.id)

    def _note(self, row: Row) -> None:
        """Called with a row as it is now, or was before it was dropped."""
        if not isinstance(row, Instance):
            return
        if row.is_made or row.id not in self._catalog.instances:
            self._half_made.pop(row.id, None)
        elif row.id not in self._half_made or self._half_made[row.id][0].mark != row.mark:
            self._half_made[row.id] = (row, self._clocks.monotonic_s())
