"""What the pipeline tells about itself, as metrics. Knows the instruments, decides nothing, never awaits."""

from __future__ import annotations

from datetime import datetime

from worker.domain.record import Record
from worker.event_integration.attempts import Attempt
from worker.event_integration.outcome import Delivered, Outcome, RetryAt
from worker.event_integration.transport import Answer, Cause, Failure
from worker.metrics import Metrics


class Observer:
    """One per pipeline; called from the hot path, so a few dictionary look-ups each."""

    def __init__(self, metrics: Metrics, monotonic_offset_s: float) -> None:
        """`monotonic_offset_s`: wall clock minus monotonic clock at start, to age events by their `received_at`."""
        self._metrics = metrics
        self._offset_s = monotonic_offset_s

    def read(self, record: Record, *, routed: int) -> None:
        """An event left the journal for the lanes; nobody wanting it completes it at once."""
        if not routed:
            self._metrics.event_integration_unrouted.add(record.tenant_id)

    def attempted(self, attempt: Attempt, result: Answer | Failure, outcome: Outcome, now_s: float) -> None:
        """One attempt has its outcome."""
        webhook, event = attempt.webhook, attempt.delivery.event
        word = "delivered" if isinstance(outcome, Delivered) else "retry" if isinstance(outcome, RetryAt) else "dead"
        metrics = self._metrics
        metrics.webhook_attempts.add(webhook.tenant_id, webhook.id, word)
        metrics.webhook_attempt_duration.record(now_s - attempt.started_s, webhook.tenant_id, webhook.id, word)
        metrics.event_integration_duration.record(now_s - event.read_at_s, webhook.tenant_id, event.record.type, word)
        for phase, seconds in result.phases_s.items():
            metrics.webhook_attempt_phase_duration.record(seconds, webhook.id, phase)
        if isinstance(result, Failure) and result.cause is Cause.TIMEOUT:
            metrics.event_integration_deadline_exceeded.add(webhook.tenant_id, result.stage)
        if word == "delivered":
            received_s = datetime.fromisoformat(event.record.received_at).timestamp()
            metrics.event_integration_end_to_end.record(max(0.0, now_s + self._offset_s - received_s), webhook.tenant_id)
