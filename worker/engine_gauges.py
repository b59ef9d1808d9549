"""What is seen of an engine from outside: the gauges that `/metrics` reads, and the page `/status`. Reads everything, changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.client_registry.registry import Registry
from worker.client_registry.roll import roll
from worker.directory.following import Follower
from worker.domain.catalog import Catalog
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.attempts import UnderWay
from worker.event_integration.bulkheads import Bulkheads
from worker.event_integration.observing import Whereabouts, accepted_age_s, watch_webhooks
from worker.event_integration.pipeline import Pipeline
from worker.event_integration.reader import Reader
from worker.event_integration.retry_pump import RetryPump
from worker.event_integration.settling import Settling
from worker.ingest.door import Door
from worker.ingest.handler import Ingest
from worker.metrics import Metrics
from worker.orchestrator.streams import Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An engine's parts, as far as they have something to show."""

    catalog: Catalog
    ingest: Ingest
    door: Door
    buffer: EventBuffer
    pipeline: Pipeline
    bulkheads: Bulkheads
    under_way: UnderWay
    settling: Settling
    retry_pump: RetryPump
    reader: Reader
    registry: Registry
    follower: Follower
    streams: Streams
    wall_s: Callable[[], float]

    @property
    def whereabouts(self) -> Whereabouts:
        return Whereabouts(
            buffer=self.buffer, under_way=self.under_way, overdue_s=self.retry_pump.overdue_s, webhooks=self.catalog.webhooks
        )

    def journal_age_s(self) -> float:
        """Since the acceptance of the oldest event that was read and is neither delivered nor parked."""
        return accepted_age_s(self.whereabouts, self.wall_s())

    def watch(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        """Gives every gauge its source."""
        buffer, pipeline, registry = self.buffer, self.pipeline, self.registry
        metrics.event_buffer_events.watch(lambda: {(): float(buffer.events)})
        metrics.event_buffer_bytes.watch(lambda: {(): float(buffer.bytes)})
        metrics.event_buffer_capacity_events.watch(lambda: {(): float(buffer.max_events)})
        metrics.event_buffer_oldest_age.watch(lambda: {(): pipeline.oldest_age_s()})
        metrics.event_integration_oldest_age.watch(lambda: {(): pipeline.oldest_age_s()})
        watch_webhooks(metrics, self.bulkheads, self.whereabouts, clock)
        metrics.journal_oldest_age.watch(self.journal_age_s)
        metrics.retry_queue_oldest_due_age.watch(self.retry_pump.oldest_due_age_s)
        metrics.retry_queue_depth.watch(lambda: {(): float(self.retry_pump.depth)})
        metrics.journal_backlog_events.watch(lambda: {(): float(self.door.waiting()[0])})
        metrics.journal_backlog_bytes.watch(lambda: {(): float(self.door.waiting()[1])})
        metrics.client_registry_shards_held.watch(lambda: {(): float(len(registry.active()))})
        metrics.client_registry_fencing_token.watch(lambda: {(str(t.shard),): float(t.token) for t in registry.active()})
        metrics.client_registry_lease_valid_for.watch(
            lambda: {(str(t.shard),): max(0.0, t.valid_until_s - clock()) for t in registry.active()}
        )
        metrics.websocket_connected.watch(self.streams.sessions.connected)
        metrics.websocket_last_event_age.watch(self.streams.sessions.chronicle.last_event_age_s)

    def statistics(self) -> dict[str, Any]:
        """`/status`: everything's `statistics()`."""
        return {
            "ingest": self.ingest.statistics(),
            "door": self.door.statistics(),
            "event_buffer": self.buffer.statistics(),
            "pipeline": self.pipeline.statistics(),
            "settling": self.settling.statistics(),
            "retry_queue": {"depth": self.retry_pump.depth},
            "registry": self.registry.role(),
            **roll(self.registry),
            "directory": self.follower.statistics(),
            "journal": {"events_read": self.reader.events_read, "oldest_age_s": round(self.journal_age_s(), 3)},
            "sockets": self.streams.statistics(),
        }
