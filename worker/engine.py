"""The engine: everything between the door and the webhooks, wired over ports. The same over Redis and sockets as over the twins.

Owns nothing of the process: no listener, no signal, no clock of its own. `app.py` brings those for a real worker; component
tests bring virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import structlog

from worker.client_registry.port import ShardSockets
from worker.client_registry.registry import Hooks as RegistryHooks
from worker.client_registry.registry import Identity, Registry
from worker.client_registry.registry import Store as RegistryStore
from worker.client_registry.renewal import Renewal
from worker.client_registry.tenure import Tenure
from worker.directory.following import Follower
from worker.directory.registering import Registrar
from worker.directory.replica import Replica
from worker.domain.catalog import Catalog, Instance, Row, Tenant
from worker.domain.errors import StaleToken
from worker.domain.ids import Position, Shard, WebhookId
from worker.engine_gauges import Observed
from worker.engine_needs import EngineSettings, Store, World
from worker.event_buffer.deliveries import Delivery
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.attempts import UnderWay
from worker.event_integration.attempts_log import AttemptsRecorder
from worker.event_integration.bulkheads import Bulkheads
from worker.event_integration.careful import CarefulReading
from worker.event_integration.chat_order import ChatOrder
from worker.event_integration.checkpointer import Checkpointer
from worker.event_integration.enrichment import Enrichment
from worker.event_integration.first_reads import FirstReads
from worker.event_integration.housekeeping import Housekeeping
from worker.event_integration.leaving import Leaving
from worker.event_integration.observing import Observer
from worker.event_integration.pipeline import Parts, Pipeline
from worker.event_integration.reader import Reader
from worker.event_integration.release import ReleaseRates
from worker.event_integration.retry_pump import RetryPump
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.settling import Hooks as SettlingHooks
from worker.event_integration.settling import Settling
from worker.event_integration.standing import Standing
from worker.event_integration.sweep import Sweep
from worker.event_integration.transport import Transport
from worker.gateways import GATEWAYS
from worker.handover import Handover
from worker.ingest.door import Door
from worker.ingest.handler import Ingest
from worker.ingest.preparation import Preparation
from worker.ingest.segments import SegmentWriter
from worker.metrics import Metrics
from worker.orchestrator.streams import Read, Streams
from worker.shutdown import Rooms, Shutdown
from worker.websocket.chronicle import Clocks as SessionClocks

__all__ = ["Engine", "EngineSettings", "Store", "World"]

log = structlog.get_logger("worker.engine")


class Engine:
    """Built by plain constructor calls in the order of the way of an event; `run` until cancelled, `shutdown` before that."""

    contacts: Enrichment | None = None
    """Who knows contacts, for webhooks that want them; set before `run`."""

    def __init__(
        self, store: Store, transport: Transport, catalog: Catalog, identity: Identity, settings: EngineSettings, world: World
    ) -> None:
        clock = world.clocks.monotonic_s
        self._store, self._settings, self._clock = store, settings, clock
        self.catalog, self.transport = catalog, transport
        self.wall = world.stamps.received_at
        """RFC 3339 now, as events are stamped with it."""
        self.metrics = Metrics()
        self._take_in(store, world)
        # through
        self.buffer = EventBuffer(
            max_events=settings.buffer_max_events, max_bytes=settings.buffer_max_bytes, min_lane_events=settings.buffer_min_lane_events
        )
        self.bulkheads = Bulkheads(settings.max_in_flight, world.clocks.unit_random)
        self.settling = Settling(
            store.retry_queue,
            self.buffer,
            shards=settings.shards,
            clock=clock,
            hooks=SettlingHooks(stale=self._stale, parked=self._parked, dead=self._dead),
        )
        self.under_way = UnderWay()
        self.chats = ChatOrder(store.retry_queue, store.chat_aliases, catalog)
        rates = ReleaseRates(clock())
        wall_offset_s = world.clocks.wall_s() - clock()
        self.attempts = AttemptsRecorder(store.attempts_log, wall_offset_s)
        self.standing = Standing(store.webhook_states, world.stamps.received_at, disable_after_s=settings.disable_after_s)
        self.pipeline = Pipeline(
            Parts(
                catalog=catalog,
                chats=self.chats,
                buffer=self.buffer,
                under_way=self.under_way,
                bulkheads=self.bulkheads,
                transport=transport,
                settling=self.settling,
                policy=settings.retry,
                clocks=world.clocks,
                observer=Observer(self.metrics, self.attempts, wall_offset_s),
                standing=self.standing,
            )
        )
        self.standing.changed = self._standing_changed
        self.leaving = Leaving(self.buffer, self.under_way, self.settling, self.pipeline, clock)
        self.sweep = Sweep(self.pipeline, self.buffer, self.leaving, clock)
        # owned
        self.streams = self._streams(world)
        self.sockets: ShardSockets = self.streams.orchestrator
        self.registry = self._registry(identity, world)
        self._serve_tenures(store, rates)
        self._follow_directory(store)
        self._observed = self._observe(world)

    def _take_in(self, store: Store, world: World) -> None:
        """From the door to the journal."""
        shards, metrics = self._settings.shards, self.metrics
        self.writer = SegmentWriter(store.journal, shards, self._clock, observe_append_s=metrics.journal_append_duration.record)
        self.door = Door(store.room, [Shard(n) for n in range(shards)], self._settings.room)
        preparation = Preparation(catalog=self.catalog, shards=shards, stamps=world.stamps)
        self.ingest = Ingest(preparation, GATEWAYS, self.writer, self.door, metrics, self._clock)

    def _serve_tenures(self, store: Store, rates: ReleaseRates) -> None:
        """The loops that go by the registry's table of tenures."""
        settings, clock, active, refused = self._settings, self._clock, self.registry.active, self.registry.refused
        self._first_reads = FirstReads(store.journal, clock, self.metrics.client_registry_handover_duration.record)
        self.reader = Reader(self._first_reads, self.buffer, self.pipeline, active, clock)
        self.reader.chats = self.chats
        self.reader.after_away = self._verify_tails
        self.reader.careful = CarefulReading(store.checkpoints, self.settling, self.pipeline, clock)
        self.reader.careful.knows_chats = self.chats.knows
        self.reader.on_stale = refused
        self.retry_pump = RetryPump(store.retry_queue, self.pipeline, (self.bulkheads, self.buffer, self.catalog), active, clock, rates)
        self.retry_pump.on_stale = refused
        self.checkpointer = Checkpointer(store.checkpoints, self.leaving, self.settling, active, clock)
        self.checkpointer.before_save = self.chats.keep_aliases
        self.checkpointer.on_stale = refused
        self.checkpointer.on_went_back = self._went_back
        self.checkpointer.keep_s = settings.keep_s
        self.checkpointer.is_store_tight = lambda: self.door.is_store_tight
        self.checkpointer.keep_bytes = settings.room.max_bytes // 4 // settings.shards
        self.handover = Handover(
            registry=self.registry, leaving=self.leaving, settling=self.settling, checkpointer=self.checkpointer, clock=clock
        )
        self.registry.handing.rebalancing.hand_over = self.handover.hand_over
        self.housekeeping = Housekeeping(store.checkpoints, store.room, active, clock, dead_letters_keep_s=settings.dead_letters_keep_s)
        self.housekeeping.on_stale = refused
        self._renewal.progress_at_s += [lambda: self.sweep.turned_at_s, lambda: self.reader.turned_at_s]

    def _streams(self, world: World) -> Streams:
        """The gateways' streams that this worker reads."""
        clock = self._clock
        read = Read(
            catalog=self.catalog,
            shards=self._settings.shards,
            connectors=world.connectors,
            frames=self.ingest.frames,
            resume_points=self._store.resume_points,
            owns=lambda shard: any(t.shard == shard and t.may_write(clock()) for t in self.registry.active()),
        )
        clocks = SessionClocks(monotonic_s=clock, unit_random=world.clocks.unit_random, wall=self.wall)
        return Streams(read, clocks, self.metrics, self._settings.streams)

    def _follow_directory(self, store: Store) -> None:
        """What is registered at run time: whom to ask, and who has to hear of it."""
        replica = Replica(self.catalog)
        self.registrar = Registrar(store.directory, replica, self._clock)
        self.follower = Follower(store.directory, replica, self._clock)
        self.ingest.registrar = self.registrar
        self.retry_pump.knows_all_webhooks = lambda: self.follower.is_current
        self.door.share_among(len(self.catalog.tenants))
        self.catalog.on_change.append(self._row_changed)

    def _observe(self, world: World) -> Observed:
        observed = Observed(
            catalog=self.catalog,
            ingest=self.ingest,
            door=self.door,
            buffer=self.buffer,
            pipeline=self.pipeline,
            bulkheads=self.bulkheads,
            under_way=self.under_way,
            settling=self.settling,
            retry_pump=self.retry_pump,
            reader=self.reader,
            registry=self.registry,
            follower=self.follower,
            streams=self.streams,
            wall_s=world.clocks.wall_s,
        )
        observed.watch(self.metrics, world.clocks.monotonic_s)
        return observed

    def _registry(self, identity: Identity, world: World) -> Registry:
        tables = self._store
        store = RegistryStore(
            leases=tables.leases, membership=tables.membership, handovers=tables.handovers, checkpoints=tables.checkpoints
        )
        self._renewal = Renewal(
            leases=self._store.leases,
            owner=identity.owner,
            ttl_s=self._settings.lease_ttl_s,
            clock=world.clocks.monotonic_s,
            unit_random=world.clocks.unit_random,
        )
        hooks = RegistryHooks(started=self._started, suspended=self._suspended, resumed=self._resumed, ended=self._ended, lost=self._lost)
        registry = Registry(
            store, identity, shards=self._settings.shards, renewal=self._renewal, hooks=hooks, wall=world.stamps.received_at
        )
        registry.sockets = self.sockets
        return registry

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """All loops, until cancelled. Started once the door knows how much room there is."""
        async with anyio.create_task_group() as loops:
            for loop in (self.writer.run, self.settling.run, self.sweep.run, self.checkpointer.run, self.attempts.run):
                loops.start_soon(loop)
            if self.contacts is not None:
                self.pipeline.builder.enrichment = self.contacts
                loops.start_soon(self.contacts.run)
            await loops.start(self.follower.run)
            await loops.start(self.door.run)
            await loops.start(self.standing.run)
            await loops.start(self.streams.sessions.run)
            loops.start_soon(self._own_shards)
            task_status.started()

    async def _own_shards(self) -> None:
        """Once what was registered is known: before that, a webhook not heard of would be taken for none, and its events for unwanted."""
        await self.follower.loaded.wait()
        async with anyio.create_task_group() as owning:
            for loop in (self.reader.run, self.retry_pump.run, self.streams.orchestrator.run, self.registry.run, self.housekeeping.run):
                owning.start_soon(loop)
            self.registry.is_ready = True

    def shutdown(self, *, signal_at_s: float, budget_s: float, spill_asked: Callable[[], bool]) -> Shutdown:
        """The way down; run it while `run` still runs."""
        rooms = Rooms(
            registry=self.registry,
            reader=self.reader,
            retry_pump=self.retry_pump,
            buffer=self.buffer,
            pipeline=self.pipeline,
            under_way=self.under_way,
            settling=self.settling,
            checkpointer=self.checkpointer,
            handover=self.handover,
            leave_door=self.door.leave,
            shut_door=self.door.shut,
            close_streams=self.streams.tear_down,
            metrics=self.metrics,
        )
        return Shutdown(rooms, signal_at_s=signal_at_s, budget_s=budget_s, clock=self._clock, spill_asked=spill_asked)

    # -- what the parts tell each other --------------------------------------------------------------------------------

    def _row_changed(self, row: Row) -> None:
        """The catalog has another row, or lost one: whoever remembers what it said asks again."""
        if isinstance(row, Tenant):
            self.door.share_among(len(self.catalog.tenants))
            return
        self.pipeline.router.forget()
        if self.chats.row_changed(row):
            self.reader.poke()
        if not isinstance(row, Instance):
            self.buffer.stir(row.id)
            if row.id not in self.catalog.webhooks:
                self.buffer.forget(row.id)
                self.pipeline.builder.forget(row.id)
                self.retry_pump.webhook_deleted(row.id)

    def _started(self, tenure: Tenure) -> None:
        self.sockets.own(tenure.shard)
        self._first_reads.expect(tenure.shard)
        self.housekeeping.note_fresh(tenure.shard)
        self.retry_pump.forget(tenure.shard)
        self.reader.poke()

    def _resumed(self, tenure: Tenure) -> None:
        self.leaving.go_on(tenure)
        self._started(tenure)

    def _suspended(self, tenure: Tenure) -> None:
        self.sockets.abort(tenure.shard)
        self.leaving.suspend(tenure)

    def _ended(self, tenure: Tenure) -> None:
        self.sockets.abort(tenure.shard)
        self.leaving.forget(tenure)
        self.chats.forget(tenure)
        self.retry_pump.forget(tenure.shard)

    def _lost(self, _tenure: Tenure, reason: str) -> None:
        self.metrics.client_registry_leases_lost.add(reason)
        if reason == "stale":
            self.metrics.client_registry_stale_writes_refused.add()

    def _stale(self, tenure: Tenure) -> None:
        self.registry.refused(tenure)

    def _parked(self, tenure: Tenure, webhook_id: WebhookId, due_in_s: float) -> None:
        if webhook_id not in self.standing.paused:  # held back: there is nothing to look for
            self.retry_pump.note(tenure, due_in_s)

    def _standing_changed(self) -> None:
        self.pipeline.serve_all()
        self.retry_pump.look_everywhere()

    def _dead(self, delivery: Delivery, reason: DeadReason) -> None:
        record = delivery.event.record
        self.metrics.dead_letters.add(record.tenant_id, reason.value)
        log.warning(
            "dead_letter",
            webhook=delivery.webhook_id,
            tenant=record.tenant_id,
            event_key=record.event_key,
            reason=reason.value,
            attempts=delivery.attempts,
        )

    async def _verify_tails(self) -> None:
        """The store was away: one that lost its last writes gives positions out again, and what we remember of them would be wrong."""
        for tenure in self.registry.active():
            try:
                await self.checkpointer.save(tenure)
            except StaleToken:
                self.registry.refused(tenure)

    def _went_back(self, tenure: Tenure, tail: Position) -> None:
        cursor = tenure.completion.cursor
        log.error("store_went_back", shard=tenure.shard, tail=tail, cursor=cursor, next_step="read again from its checkpoint")
        self.registry.start_over(tenure)

    def statistics(self) -> dict[str, Any]:
        """`/status`: everything's `statistics()`."""
        contacts = {} if self.contacts is None else {"contacts": self.contacts.statistics()}
        return self._observed.statistics() | contacts
