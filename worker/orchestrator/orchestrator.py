"""Which instance's session runs here: follows the shards that are ours or offered to us, and the catalog, and starts and stops by plan.

The registry's `ShardSockets`. Owns no connection: sessions live in the websocket package's own task group, and may end after this has.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.abc
import structlog

from worker.domain.catalog import Catalog, Instance, Row
from worker.domain.ids import InstanceId, Shard, shard_of
from worker.orchestrator.plan import Place, Wanted, plan
from worker.websocket.port import Connector
from worker.websocket.sessions import Sessions

log = structlog.get_logger("worker.orchestrator")


class Orchestrator:
    """`run` in a task group; what the port asks is done at once or in the next turn of the loop, and waits for no gateway."""

    def __init__(
        self, catalog: Catalog, connectors: Mapping[str, Connector], sessions: Sessions, *, shards: int, max_sessions: int
    ) -> None:
        """`connectors` by broker."""
        self._catalog = catalog
        self._connectors = connectors
        self._sessions = sessions
        self._shards = shards
        self._max_sessions = max_sessions
        self._wanted: dict[Shard, dict[InstanceId, Wanted]] = {}
        self._running: dict[Shard, dict[InstanceId, Place]] = {}
        self._shard_of: dict[InstanceId, Shard] = {}
        """Of those that run."""
        self._owned: set[Shard] = set()
        self._prepared: frozenset[Shard] = frozenset()
        self._barred: set[InstanceId] = set()
        """Somebody else took their sessions' place while the shard was not ours; until it is, or is offered anew."""
        self._dirty: set[Shard] = set()
        self._over: dict[Shard, int] = {}
        self._stirred = anyio.Event()
        self._is_stopped = False
        for instance in catalog.instances.values():
            self._note(instance)
        catalog.on_change.append(self._row_changed)
        sessions.on_over = self._session_over

    def __repr__(self) -> str:
        return f"<Orchestrator owned={len(self._owned)} prepared={len(self._prepared)} running={len(self._shard_of)}>"

    async def run(self) -> None:
        """Carries out what has changed, until stopped or cancelled. The sessions go on."""
        while not self._is_stopped:
            await self._stirred.wait()
            self._stirred = anyio.Event()
            while self._dirty and not self._is_stopped:
                self._carry_out(self._dirty.pop())
                await anyio.lowlevel.checkpoint()

    def stop(self) -> None:
        """TEARDOWN: nothing is started or stopped from here any more. Idempotent."""
        self._is_stopped = True
        self._stirred.set()

    # -- the port ------------------------------------------------------------------------------------------------------

    def own(self, shard: Shard) -> None:
        self._owned.add(shard)
        self._barred.difference_update(self._wanted.get(shard, ()))
        self._sessions.owned(list(self._running.get(shard, ())))
        self._stir(shard)

    def abort(self, shard: Shard) -> None:
        self._owned.discard(shard)
        self._sessions.abort(list(self._running.get(shard, ())))
        self._stir(shard)

    def prepare(self, shards: frozenset[Shard]) -> None:
        changed, self._prepared = self._prepared ^ shards, shards
        for shard in changed:
            self._barred.difference_update(self._wanted.get(shard, ()))
            self._stir(shard)

    def is_prepared(self, shard: Shard) -> bool:
        if shard in self._dirty and self._wanted.get(shard):
            return False
        return all(self._sessions.was_tried(instance_id) for instance_id in self._running.get(shard, ()))

    async def close(self, shard: Shard, *, within_s: float) -> None:
        self._owned.discard(shard)
        self._prepared -= {shard}
        instance_ids = list(self._running.get(shard, ()))
        self._sessions.leave(instance_ids)
        await self._sessions.wait_over(instance_ids, within_s=within_s)

    # -- what is seen --------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, object]:
        """`over`: instances that should be read here, were there not `MAX_SESSIONS` already."""
        return {
            "wanted": sum(len(ids) for shard, ids in self._wanted.items() if shard in self._owned),
            "max_sessions": self._max_sessions,
            "over": sum(self._over.values()),
            "prepared_shards": len(self._prepared - self._owned),
        }

    # -- following the catalog -------------------------------------------------------------------------------------------

    def _row_changed(self, row: Row) -> None:
        if isinstance(row, Instance):
            self._note(self._catalog.instances.get(row.id, row))

    def _note(self, instance: Instance) -> None:
        """What is to be read of it, if anything."""
        shard = shard_of(instance.id, self._shards)
        wanted = self._wanted_of(instance, shard)
        of_shard = self._wanted.setdefault(shard, {})
        before = of_shard.pop(instance.id, None)
        if wanted is not None:
            of_shard[instance.id] = wanted
        if before != wanted:
            self._stir(shard)
        elif wanted is not None:
            self._sessions.refresh(instance)

    def _wanted_of(self, instance: Instance, shard: Shard) -> Wanted | None:
        connector = self._connectors.get(instance.broker or "")
        is_there = instance.is_made and self._catalog.instances.get(instance.id) is instance
        if connector is None or connector.gateway != instance.gateway or not is_there:
            return None
        return Wanted(shard, Place(instance.broker or "", instance.gateway_instance), connector.allows_two_readers)

    # -- carrying out ----------------------------------------------------------------------------------------------------

    def _stir(self, shard: Shard) -> None:
        self._dirty.add(shard)
        self._stirred.set()

    def _carry_out(self, shard: Shard) -> None:
        running = self._running.setdefault(shard, {})
        prepared = self._prepared
        wanted = self._wanted.get(shard, {})
        if shard not in self._owned and self._barred:
            wanted = {name: one for name, one in wanted.items() if name not in self._barred}
        room = self._max_sessions - len(self._shard_of)
        steps = plan(wanted, owned=self._owned, prepared=prepared, running=running, room=room)
        self._sessions.leave(steps.stop)
        for instance_id in steps.start:
            self._start(self._catalog.instances[instance_id], wanted[instance_id])
        self._note_over(shard, steps.over)

    def _start(self, instance: Instance, wanted: Wanted) -> None:
        self._running[wanted.shard][instance.id] = wanted.place
        self._shard_of[instance.id] = wanted.shard
        self._sessions.start(instance, wanted.shard, self._connectors[wanted.place.broker])

    def _session_over(self, instance_id: InstanceId, is_superseded: bool) -> None:  # noqa: FBT001 -- the signature of a listener
        """By our will, or because somebody else took its place: whichever, the plan says what is next."""
        shard = self._shard_of.pop(instance_id)
        del self._running[shard][instance_id]
        if is_superseded:
            self._barred.add(instance_id)
        for waiting in (shard, *(other for other, over in self._over.items() if over)):
            self._stir(waiting)

    def _note_over(self, shard: Shard, over: int) -> None:
        if over > self._over.get(shard, 0):
            log.error(
                "too_many_sessions",
                shard=shard,
                over=over,
                max_sessions=self._max_sessions,
                next_step="start another worker, or raise WORKER_ORCHESTRATOR__MAX_SESSIONS",
            )
        self._over[shard] = over
