"""The attempts log: what became of the last hundred attempts of each webhook, for whoever looks after its endpoint.

It is a log, not a record: written once a second, and what cannot be written then is dropped and counted. Nothing here is waited for
by an attempt. Hot path: `note`, one append to a bounded deque.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import anyio
import structlog

from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import DeliveryId, EventKey, WebhookId
from worker.event_integration.attempts import Attempt
from worker.event_integration.outcome import WORDS, Outcome
from worker.event_integration.transport import Answer, Failure, Stage

log = structlog.get_logger("worker.webhooks")

KEPT = 100
"""Of each webhook, the newest."""
KEEP_S = 7 * 86_400.0
"""After a webhook's last attempt its log is forgotten."""
EVERY_S = 1.0
LAST_WRITE_S = 1.0
"""`attempts_log_last_write`: at the end of a drain."""
AT_ONCE = 4
"""Webhooks per write: some hundred entries, a few milliseconds in which no event is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEntry:
    """One attempt as it ended. `status` of the answer; None: there was none, and `error` says why, `stage` where."""

    at_s: float
    """When it ended; wall clock, seconds since the epoch."""
    event_key: EventKey
    delivery_id: DeliveryId
    """The receiver's `webhook-id`."""
    attempt: int
    """1, 2, 3 …"""
    outcome: str
    """delivered, retry or dead."""
    duration_s: float
    status: int | None = None
    error: str | None = None
    stage: Stage | None = None
    phases_s: Mapping[Stage, float] = field(default_factory=dict)


class AttemptsLog(Protocol):
    """Add, read, forget. All raise `StoreUnavailable`, `add` also `StoreFull`."""

    async def add(self, entries: Mapping[WebhookId, Sequence[AttemptEntry]]) -> None:
        """Each webhook's in order of time. Not repeatable: what was written may be there twice after an unknown outcome."""
        ...

    async def attempts_of(self, webhook_id: WebhookId) -> list[AttemptEntry]:
        """The newest first, at most `KEPT`."""
        ...

    async def forget(self, webhook_id: WebhookId) -> None: ...


_Noted: TypeAlias = tuple[float, float, EventKey, DeliveryId, int, type[Outcome], Answer | Failure, float | None]


class AttemptsRecorder:
    """`note` for each attempt; `run` in a task group."""

    def __init__(self, attempts_log: AttemptsLog, wall_offset_s: float) -> None:
        """`wall_offset_s`: wall clock minus monotonic clock."""
        self._log = attempts_log
        self._offset_s = wall_offset_s
        self._noted: dict[WebhookId, deque[_Noted]] = {}
        self.dropped = 0
        """Attempts that the store did not take."""

    def __repr__(self) -> str:
        return f"<AttemptsRecorder {len(self._noted)} webhooks, {self.dropped} dropped>"

    def note(self, attempt: Attempt, result: Answer | Failure, outcome: Outcome, now_s: float) -> None:
        """Before the outcome is settled: `delivery.attempts` are those before this one. Holds on to no payload."""
        delivery = attempt.delivery
        noted = self._noted.get(delivery.webhook_id)
        if noted is None:
            noted = self._noted[delivery.webhook_id] = deque(maxlen=KEPT)
        key, number = delivery.event.record.event_key, delivery.attempts + 1
        noted.append((now_s, attempt.started_s, key, delivery.delivery_id, number, type(outcome), result, attempt.enriched_in_s))

    async def run(self) -> None:
        """Until cancelled; what was noted in the last second is written then."""
        try:
            while True:
                await anyio.sleep(EVERY_S)
                await self.write()
        finally:
            with anyio.move_on_after(LAST_WRITE_S, shield=True):
                await self.write()

    async def write(self) -> None:
        """What was noted since the last time."""
        noted, self._noted = list(self._noted.items()), {}
        dropped = 0
        for start in range(0, len(noted), AT_ONCE):
            entries = {w: [self._entry(one) for one in each] for w, each in noted[start : start + AT_ONCE]}
            try:
                await self._log.add(entries)
            except (StoreUnavailable, StoreFull):
                dropped += sum(map(len, entries.values()))
        if dropped:
            self.dropped += dropped
            log.debug("attempts_not_logged", count=dropped, next_step="none; deliveries are not touched by it")

    def _entry(self, noted: _Noted) -> AttemptEntry:
        ended_s, started_s, event_key, delivery_id, number, outcome, result, enriched_in_s = noted
        answer, failure = (result, None) if isinstance(result, Answer) else (None, result)
        return AttemptEntry(
            at_s=ended_s + self._offset_s,
            event_key=event_key,
            delivery_id=delivery_id,
            attempt=number,
            outcome=WORDS[outcome],
            duration_s=ended_s - started_s,
            status=answer.status if answer else None,
            error=None if failure is None else failure.cause.value + (f": {failure.detail}" if failure.detail else ""),
            stage=failure.stage if failure else None,
            phases_s=result.phases_s if enriched_in_s is None else {Stage.ENRICH: enriched_in_s, **result.phases_s},
        )
