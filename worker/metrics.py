"""The catalogue of contract 7: every metric this worker shows, with its unit, its closed labels and one line of help.

Instruments are own pre-aggregated cells (`metrics_cells.py`): a record costs two dictionary look-ups and an addition. Whoever
exports (the `/metrics` page, OpenTelemetry) reads them then. Build one `Metrics` in `app.py`; hand on the instruments.
"""

from __future__ import annotations

from collections.abc import Iterator

from worker.metrics_cells import LABEL_LIMIT, Counter, Fold, Gauge, Histogram, Instrument, Label
from worker.metrics_text import prometheus_text

DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 150.0, 300.0)

TENANT = Label("tenant", limit=LABEL_LIMIT)
WEBHOOK = Label("webhook", limit=LABEL_LIMIT)
SHARD = Label("shard", limit=LABEL_LIMIT)
GATEWAY = Label("gateway", limit=32)
OUTCOME = Label("outcome", closed=("delivered", "retry", "dead", "cancelled"))
STAGE = Label("stage", closed=("queue", "enrich", "dns", "connect", "tls", "send", "first_byte", "body"))
PHASE = Label("phase", closed=STAGE.closed)
SHUTDOWN_PHASE = Label("phase", closed=("prepare", "quiesce", "drain", "spill", "teardown", "handover", "exit"))
LOST = Label("reason", closed=("expired", "stale", "stalled", "redis"))
ROTATION = Label("reason", closed=("deployment", "replacement", "scale_in", "local", "unknown"))
DEAD_REASON = Label("reason", limit=32)
CLOSED = Label(
    "reason",
    closed=(
        "refused",
        "unauthorized",
        "unknown_instance",
        "timeout",
        "replaced",
        "server_left",
        "broken",
        "protocol",
        "silent",
        "stalled",
        "left",
        "lease_lost",
    ),
)
INSTANCES_STAGE = Label("stage", closed=("refresh", "list", "create"))
INSTANCES_OUTCOME = Label("outcome", closed=("ok", "stale", "failed"))
LOOKUP = Label("result", closed=("hit", "stale", "negative", "miss", "timeout", "not_connected", "limited"))
EVENT_TYPE = Label(
    "event_type",
    closed=("message", "receipt", "presence", "connection", "qr", "call", "group", "contact", "history", "system", "unknown"),
)
INGEST_ANSWER = Label(
    "answer",
    closed=(
        "accepted",
        "MALFORMED_EVENT",
        "BAD_SIGNATURE",
        "UNKNOWN_INSTANCE",
        "BODY_TOO_LARGE",
        "BODY_TOO_SLOW",
        "challenge",
        "BAD_VERIFY_TOKEN",
        "JOURNAL_FULL",
        "TENANT_BACKLOG_FULL",
        "JOURNAL_UNAVAILABLE",
        "DRAINING",
    ),
)


class Metrics:
    """One attribute per metric. Gauges read their source when asked: `metrics.buffer_events.watch(lambda: …)`."""

    def __init__(self) -> None:
        self._ingest()
        self._journal()
        self._delivery()
        self._webhooks()
        self._instances()
        self._contacts()
        self._ownership()
        self._sockets()

    def __iter__(self) -> Iterator[Instrument]:
        """Every instrument, in the order of the catalogue."""
        return (value for value in vars(self).values() if isinstance(value, Counter | Gauge | Histogram))

    def text(self) -> str:
        """The Prometheus exposition of everything."""
        return prometheus_text(self)

    def _ingest(self) -> None:
        self.ingest_requests = Counter("ingest.requests", "Pushes by gateway and answer.", (GATEWAY, INGEST_ANSWER))
        self.ingest_events = Counter("ingest.events", "Events made durable, duplicates left out.", (TENANT, EVENT_TYPE))
        self.ingest_duplicates = Counter("ingest.duplicates", "Events the journal already held.", (TENANT,))
        self.ingest_misnamed = Counter(
            "ingest.misnamed", "Events that name an instance nobody registered; kept under the path's.", (TENANT,)
        )
        self.ingest_undecodable = Counter("ingest.undecodable", "Bodies kept whole because their decoder failed.", (GATEWAY,))
        self.ingest_duration = Histogram("ingest.duration", "From the whole body to the answer.", (GATEWAY,), DURATION_BUCKETS_S)

    def _journal(self) -> None:
        self.journal_append_duration = Histogram("journal.append.duration", "One segment, until durable.", (), DURATION_BUCKETS_S)
        self.journal_backlog_events = Gauge("journal.backlog_events", "Events that wait: journal, parked, dead letters.", fold=Fold.SUM)
        self.journal_oldest_age = Gauge(
            "journal.oldest_age",
            "Since its acceptance: oldest event read from the journal and neither delivered nor parked. What is not read yet came later.",
            unit="seconds",
        )
        self.journal_backlog_bytes = Gauge("journal.backlog_bytes", "Bytes that wait.", unit="bytes", fold=Fold.SUM)

    def _delivery(self) -> None:
        self.event_integration_duration = Histogram(
            "event_integration.duration",
            "An event in the pipeline, from its lane to its outcome.",
            (TENANT, EVENT_TYPE, OUTCOME),
            DURATION_BUCKETS_S,
        )
        self.event_integration_oldest_age = Gauge(
            "event_integration.oldest_age", "Oldest event read and neither delivered nor parked.", unit="seconds"
        )
        self.event_integration_deadline_exceeded = Counter(
            "event_integration.deadline_exceeded", "Attempts that ended at their deadline, by the stage they were in.", (TENANT, STAGE)
        )
        self.event_integration_end_to_end = Histogram(
            "event_integration.end_to_end", "From accepted to delivered.", (TENANT,), DURATION_BUCKETS_S
        )
        self.event_integration_unrouted = Counter("event_integration.unrouted", "Events that no webhook wants.", (TENANT,))
        self.event_buffer_events = Gauge("event_buffer.events", "Events in the buffer.", fold=Fold.SUM)
        self.event_buffer_bytes = Gauge("event_buffer.bytes", "Bytes in the buffer.", unit="bytes", fold=Fold.SUM)
        self.event_buffer_capacity_events = Gauge("event_buffer.capacity_events", "What the buffer may hold.", fold=Fold.SUM)
        self.event_buffer_oldest_age = Gauge("event_buffer.oldest_age", "Age of the oldest delivery in the buffer.", unit="seconds")
        self.retry_queue_depth = Gauge("retry_queue.depth", "Deliveries parked.", fold=Fold.SUM)
        self.retry_queue_oldest_due_age = Gauge(
            "retry_queue.oldest_due_age", "How long the earliest due delivery of the shards held is due, as last seen.", unit="seconds"
        )
        self.dead_letters = Counter("dead_letters", "Deliveries given up, by reason.", (TENANT, DEAD_REASON))

    def _webhooks(self) -> None:
        labels = (TENANT, WEBHOOK, OUTCOME)
        self.webhook_attempt_duration = Histogram("webhook.attempt.duration", "One attempt, all of it.", labels, DURATION_BUCKETS_S)
        self.webhook_attempt_phase_duration = Histogram(
            "webhook.attempt.phase.duration", "One attempt, by phase.", (WEBHOOK, PHASE), DURATION_BUCKETS_S
        )
        self.webhook_attempts = Counter("webhook.attempts", "Attempts by outcome.", labels)
        self.webhook_duplicates = Counter(
            "webhook.duplicates", "Requests sent whole and never answered that go out again: the receiver may see these events twice.", ()
        )
        self.webhook_in_flight = Gauge("webhook.in_flight", "Attempts under way.", (WEBHOOK,), fold=Fold.SUM)
        self.webhook_concurrency_limit = Gauge(
            "webhook.concurrency_limit", "Attempts that may be under way; 1 while unproven or suspect.", (WEBHOOK,)
        )
        self.webhook_circuit_state = Gauge("webhook.circuit_state", "0 closed, 1 half open, 2 open.", (WEBHOOK,))
        self.webhook_oldest_undelivered_age = Gauge(
            "webhook.oldest_undelivered_age",
            "Age of the oldest event in memory that a webhook has not had yet; what is parked shows in retry_queue.*.",
            (TENANT, WEBHOOK),
            unit="seconds",
        )

    def _instances(self) -> None:
        self.instances_operation_duration = Histogram(
            "instances.operation.duration",
            "One call of the instances API, or one refresh of a tenant's snapshot; stale: answered from an earlier one.",
            (TENANT, INSTANCES_STAGE, INSTANCES_OUTCOME),
            DURATION_BUCKETS_S,
        )
        self.broker_health = Gauge("broker.health", "1: the gateway's brokers answer; 0: a circuit of theirs is open.", (GATEWAY,))

    def _contacts(self) -> None:
        self.contact_metadata_cache_lookups = Counter(
            "contact_metadata_cache.lookups",
            "hit, stale, negative, miss: what a delivery found of a picture; timeout, not_connected, limited: why a broker did not say.",
            (LOOKUP,),
        )
        self.contact_metadata_cache_fetch_duration = Histogram(
            "contact_metadata_cache.fetch.duration", "One question to a broker.", (), DURATION_BUCKETS_S
        )

    def _ownership(self) -> None:
        self.client_registry_shards_held = Gauge("client_registry.shards_held", "Shards this worker owns.", fold=Fold.SUM)
        self.client_registry_fencing_token = Gauge("client_registry.fencing_token", "Token of the tenure.", (SHARD,))
        self.client_registry_lease_valid_for = Gauge("client_registry.lease_valid_for", "Local validity left.", (SHARD,), unit="seconds")
        self.client_registry_handover_duration = Histogram(
            "client_registry.handover.duration",
            "From a shard's grant until its journal was first read (asked, where nothing is in it).",
            (),
            DURATION_BUCKETS_S,
        )
        self.client_registry_leases_lost = Counter("client_registry.leases_lost", "Tenures that ended without release.", (LOST,))
        self.client_registry_stale_writes_refused = Counter("client_registry.stale_writes_refused", "Writes refused for an old token.", ())
        self.event_loop_lag = Gauge("event_loop.lag", "How late the loop ran at worst in the last 15 to 30 s.", unit="seconds")
        self.shutdown_phase_duration = Histogram(
            "shutdown.phase.duration", "One phase of the shutdown.", (SHUTDOWN_PHASE,), DURATION_BUCKETS_S
        )
        self.shutdown_spilled = Counter("shutdown.spilled", "Deliveries parked by a shutdown.", ())
        self.worker_clock_error = Gauge("worker.clock_error", "Bound of the clock's error, where ECS tells one.", unit="seconds")
        self.worker_rotations = Counter("worker.rotations", "Shutdowns by reason, counted when one begins.", (ROTATION,))

    def _sockets(self) -> None:
        self.websocket_connected = Gauge("websocket.connected", "Open streams of gateways.", (GATEWAY,), fold=Fold.SUM)
        self.websocket_reconnects = Counter("websocket.reconnects", "Streams lost or refused, before the next try.", (GATEWAY, CLOSED))
        self.websocket_last_event_age = Gauge(
            "websocket.last_event_age", "Since any stream of the gateway last brought an event.", (GATEWAY,), unit="seconds"
        )
