"""What the pipeline tells about itself, as metrics and in the attempts log. Decides nothing, never awaits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from worker.domain.catalog import Webhook
from worker.domain.event import EventType
from worker.domain.ids import WebhookId
from worker.domain.record import Record
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.attempts import Attempt, UnderWay
from worker.event_integration.attempts_log import AttemptsRecorder
from worker.event_integration.bulkheads import Bulkheads
from worker.event_integration.circuit import CircuitState
from worker.event_integration.outcome import WORDS, Outcome
from worker.event_integration.transport import Answer, Cause, Failure, Stage
from worker.metrics import Metrics
from worker.metrics_cells import Cell, Spread

_NOWHERE = Cell((), Spread([0]))


@dataclass(slots=True)
class _Cells:
    """What one kind of attempt records into."""

    attempt: Cell
    event: Cell
    end_to_end: Cell
    phases: dict[Stage, Cell] = field(default_factory=dict)


class Observer:
    """One per pipeline; called from the hot path, so a few dictionary look-ups each."""

    def __init__(self, metrics: Metrics, attempts: AttemptsRecorder, monotonic_offset_s: float) -> None:
        """`monotonic_offset_s`: wall clock minus monotonic clock at start, to age events by their `received_at`."""
        self._metrics = metrics
        self._attempts = attempts
        self._offset_s = monotonic_offset_s
        self._cells: dict[tuple[WebhookId, EventType, str], _Cells] = {}

    def unrouted(self, record: Record) -> None:
        """An event that no webhook wants: complete at once."""
        self._metrics.event_integration_unrouted.add(record.tenant_id)

    def attempted(self, attempt: Attempt, result: Answer | Failure, outcome: Outcome, now_s: float) -> None:
        """One attempt has its outcome."""
        self._attempts.note(attempt, result, outcome, now_s)
        webhook, event = attempt.webhook, attempt.delivery.event
        word = WORDS[type(outcome)]
        kind = (webhook.id, event.record.type, word)
        cells = self._cells.get(kind) or self._cells_of(webhook, kind)
        self._metrics.webhook_attempts.add(webhook.tenant_id, webhook.id, word)
        cells.attempt.record(now_s - attempt.started_s)
        cells.event.record(now_s - event.read_at_s)
        for phase, seconds in result.phases_s.items():
            (cells.phases.get(phase) or self._phase_of(cells, webhook, phase)).record(seconds)
        if attempt.enriched_in_s is not None:
            (cells.phases.get(Stage.ENRICH) or self._phase_of(cells, webhook, Stage.ENRICH)).record(attempt.enriched_in_s)
        if word == "delivered":
            received_s = datetime.fromisoformat(event.record.received_at).timestamp()
            cells.end_to_end.record(max(0.0, now_s + self._offset_s - received_s))
        elif isinstance(result, Failure):
            self._failed(webhook, result, word)

    def _failed(self, webhook: Webhook, failure: Failure, word: str) -> None:
        """No status line. What was sent whole may have arrived all the same; when it goes out again, the receiver sees it twice."""
        if failure.cause is Cause.TIMEOUT:
            self._metrics.event_integration_deadline_exceeded.add(webhook.tenant_id, failure.stage)
        if word == "retry" and failure.stage is Stage.FIRST_BYTE:
            self._metrics.webhook_duplicates.add()

    def _cells_of(self, webhook: Webhook, kind: tuple[WebhookId, EventType, str]) -> _Cells:
        """The cells that attempts of this kind record into; webhooks × types × outcomes, bounded by the catalog."""
        metrics, (webhook_id, event_type, word) = self._metrics, kind
        cells = self._cells[kind] = _Cells(
            attempt=metrics.webhook_attempt_duration.cell(webhook.tenant_id, webhook_id, word),
            event=metrics.event_integration_duration.cell(webhook.tenant_id, event_type, word),
            end_to_end=metrics.event_integration_end_to_end.cell(webhook.tenant_id) if word == "delivered" else _NOWHERE,
        )
        return cells

    def _phase_of(self, cells: _Cells, webhook: Webhook, phase: Stage) -> Cell:
        cell = cells.phases[phase] = self._metrics.webhook_attempt_phase_duration.cell(webhook.id, phase)
        return cell

    def abandoned(self, attempt: Attempt, now_s: float) -> None:
        """One attempt was cancelled before it had an outcome."""
        webhook = attempt.webhook
        self._metrics.webhook_attempts.add(webhook.tenant_id, webhook.id, "cancelled")
        self._metrics.webhook_attempt_duration.record(now_s - attempt.started_s, webhook.tenant_id, webhook.id, "cancelled")


_CIRCUIT = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 1.0, CircuitState.OPEN: 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where deliveries are. `overdue_s`: by webhook, since when something is parked that could have been sent."""

    buffer: EventBuffer
    under_way: UnderWay
    overdue_s: Callable[[], Mapping[WebhookId, float]]
    webhooks: Mapping[WebhookId, Webhook]


def watch_webhooks(metrics: Metrics, bulkheads: Bulkheads, whereabouts: Whereabouts, clock: Callable[[], float]) -> None:
    """The gauges by webhook; read when somebody looks, at most a thousand values shown."""
    metrics.webhook_in_flight.watch(lambda: {(w,): float(place.in_flight) for w, place in bulkheads.places().items()})
    metrics.webhook_concurrency_limit.watch(lambda: {(w,): float(place.limit) for w, place in bulkheads.places().items()})
    metrics.webhook_circuit_state.watch(lambda: {(w,): _CIRCUIT[place.circuit] for w, place in bulkheads.places().items()})
    metrics.webhook_oldest_undelivered_age.watch(lambda: _undelivered_age_s(whereabouts, clock()))


def accepted_age_s(whereabouts: Whereabouts, wall_s: float) -> float:
    """Since the acceptance of the oldest event in memory that still counts against its journal. Wall clocks of two workers: for people."""
    waiting = (lane.waiting[0] for lane in whereabouts.buffer.lanes() if lane.waiting)
    held = (*waiting, *(attempt.delivery for attempt in whereabouts.under_way))
    oldest = min((delivery.event.record.received_at for delivery in held if delivery.claim is None), default=None)
    return 0.0 if oldest is None else max(0.0, wall_s - datetime.fromisoformat(oldest).timestamp())


def _undelivered_age_s(whereabouts: Whereabouts, now_s: float) -> dict[tuple[str, ...], float]:
    """By (tenant, webhook): since when the oldest event in its lane or under way is in memory, and before that parked; or is overdue."""
    waiting = [lane.waiting[0] for lane in whereabouts.buffer.lanes() if lane.waiting]
    known, overdue_s = whereabouts.webhooks, whereabouts.overdue_s()
    ages: dict[tuple[str, ...], float] = {(known[w].tenant_id, w): age_s for w, age_s in overdue_s.items() if w in known}
    for delivery in (*waiting, *(attempt.delivery for attempt in whereabouts.under_way)):
        whose = (delivery.event.record.tenant_id, delivery.webhook_id)
        age_s = delivery.parked_for_s + now_s - delivery.event.read_at_s
        ages[whose] = max(age_s, ages.get(whose, 0.0))
    return ages
