"""The retry pump: takes out of the retry queue what is due and can start now, fair between webhooks.

Looks at a shard when something in it may be due: at once after a claim that found work, at the next due time, at least
every 2 s. What a bulkhead or an open circuit would not let start is not claimed, so nothing circles. After an outage a
webhook's backlog is released at up to twice its usual rate (routed per second over the last hour, at least 50/s). What is paused is held
back in the store before anything is claimed (`holding.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import anyio
import structlog

from worker.client_registry.tenure import Tenure
from worker.domain.catalog import Catalog
from worker.domain.errors import StaleToken, StoreFull, StoreUnavailable
from worker.domain.ids import Shard, WebhookId
from worker.event_buffer.lanes import EventBuffer
from worker.event_integration.bulkheads import Bulkheads
from worker.event_integration.holding import Holding
from worker.event_integration.pipeline import Pipeline
from worker.event_integration.release import ReleaseRates
from worker.event_integration.retry_queue import DueWebhook, RetryQueue, Want
from worker.event_integration.settling import CLAIM_GRACE_S

log = structlog.get_logger()

TURN_S = 0.02
LOOK_AT_LEAST_EVERY_S = 2.0
"""A former owner's claims settle without telling us, and may leave the next of a chat due at once."""
BUSY_LOOK_S = 0.25
SOON_LOOK_S = 0.04
WEBHOOKS_PER_LOOK = 1_000
UNKNOWN_WEBHOOK_AT_ONCE = 16
"""Deliveries of a webhook that was deleted, taken per look to become dead letters."""


class RetryPump:
    """`run` in a task group; `note` when something was parked."""

    def __init__(
        self,
        retry_queue: RetryQueue,
        pipeline: Pipeline,
        gauges: tuple[Bulkheads, EventBuffer, Catalog],
        tenures: Callable[[], Iterable[Tenure]],
        clock: Callable[[], float],
        rates: ReleaseRates,
    ) -> None:
        self._retry_queue = retry_queue
        self._pipeline = pipeline
        self._bulkheads, self._buffer, self._catalog = gauges
        self._tenures = tenures
        self._clock = clock
        self._rates = rates
        self._holding = Holding(retry_queue, pipeline.standing, self._catalog.webhooks)
        self._look_at_s: dict[Shard, float] = {}
        self._noted = anyio.Event()
        self._turn = 0
        self._seen: dict[Shard, tuple[float, list[DueWebhook]]] = {}
        """What each shard's last look showed, and when that was."""
        self.knows_all_webhooks: Callable[[], bool] = lambda: True
        """False: a webhook we do not know may have been registered all the same; nothing of it is claimed."""
        self.is_stopped = False
        """PREPARE and after: nothing is claimed any more."""
        self.on_stale: Callable[[Tenure], None] = lambda _tenure: None

    @property
    def depth(self) -> int:
        """Deliveries parked in the owned shards, those held back included, as last seen."""
        return sum(row.depth for _, row in self._rows()) + sum(row.depth for _, row in self._holding.waiting())

    def oldest_due_age_s(self) -> float:
        """How long the earliest due delivery of the owned shards has been due; 0.0 where none is, or all are held back."""
        return max(0.0, self._clock() - min((at_s + row.due_in_s for at_s, row in self._rows()), default=float("inf")))

    def overdue_s(self) -> dict[WebhookId, float]:
        """Since when something waits for each webhook that could have been sent, had nothing held it back."""
        now_s, found = self._clock(), dict[WebhookId, float]()
        for at_s, row in (*self._rows(), *self._holding.waiting()):
            age_s = now_s - at_s - row.due_in_s
            if age_s > found.get(row.webhook_id, 0.0):
                found[row.webhook_id] = age_s
        return found

    def _rows(self) -> Iterator[tuple[float, DueWebhook]]:
        return ((at_s, row) for at_s, rows in self._seen.values() for row in rows)

    def note(self, tenure: Tenure, due_in_s: float) -> None:
        """Something was parked: look again when it is due."""
        at_s = self._clock() + due_in_s
        if at_s < self._look_at_s.get(tenure.shard, 0.0):
            self._look_at_s[tenure.shard] = at_s
            self._noted.set()

    def look_everywhere(self) -> None:
        """Who may be claimed has changed: every shard is looked at now."""
        self._look_at_s.clear()
        self._noted.set()

    def webhook_deleted(self, webhook_id: WebhookId) -> None:
        """What waits for it becomes dead letters: looked for now."""
        self._rates.forget(webhook_id)
        self.look_everywhere()

    def forget(self, shard: Shard) -> None:
        """A new tenure looks at once."""
        self._look_at_s.pop(shard, None)
        self._seen.pop(shard, None)
        self._holding.forget(shard)
        self._noted.set()

    async def run(self) -> None:
        while True:
            await self._until_due()
            now_s = self._clock()
            self._holding.look()
            for tenure in self._in_turn():
                if (
                    self.is_stopped
                    or not tenure.is_reading
                    or not tenure.may_write(now_s)
                    or now_s < self._look_at_s.get(tenure.shard, 0.0)
                ):
                    continue
                try:
                    await self._look(tenure, now_s)
                except StaleToken:
                    self.on_stale(tenure)
                except (StoreUnavailable, StoreFull) as exc:
                    log.warning("retry_queue_not_read", cause=str(exc), next_step="looked at again in a second")
                    self._look_at_s[tenure.shard] = now_s + 1.0
                    break

    def _in_turn(self) -> list[Tenure]:
        """Another shard first each time: what one claims, the next one's same webhook cannot."""
        tenures = list(self._tenures())
        self._turn += 1
        start = self._turn % max(1, len(tenures))
        return tenures[start:] + tenures[:start]

    async def _until_due(self) -> None:
        """Until a shard is to be looked at, at least a turn and at most `LOOK_AT_LEAST_EVERY_S`; `note` may bring it forward."""
        await anyio.sleep(TURN_S)
        now_s = self._clock()
        next_s = min((self._look_at_s.get(t.shard, 0.0) for t in self._tenures()), default=now_s + LOOK_AT_LEAST_EVERY_S)
        self._noted = anyio.Event()
        with anyio.move_on_after(min(LOOK_AT_LEAST_EVERY_S, max(0.0, next_s - now_s))):
            await self._noted.wait()

    async def _look(self, tenure: Tenure, now_s: float) -> None:
        """Asks what is due in one shard, claims what can start, and decides when to look again.

        That is set before the question goes out: what is parked meanwhile brings it forward (`note`), and must not be overwritten.
        """
        self._look_at_s[tenure.shard] = now_s + LOOK_AT_LEAST_EVERY_S
        await self._holding.keep(tenure, now_s)
        due = await self._retry_queue.due(tenure.shard, limit=WEBHOOKS_PER_LOOK)
        self._seen[tenure.shard] = now_s, due
        wanted = self._wanted(due, now_s)
        next_due_s = min((row.due_in_s for row in due if row.due_in_s > 0), default=LOOK_AT_LEAST_EVERY_S)
        self._look_by(tenure.shard, now_s + next_due_s)
        if wanted:
            claimed = await self._retry_queue.claim(tenure.shard, tenure.token, wanted)
            for item in claimed:
                self._pipeline.resume(tenure, item)
            # Of a webhook that is gone perhaps all is claimed already: that is looked for again when the claims end.
            self._look_by(tenure.shard, now_s + (0.0 if claimed else BUSY_LOOK_S))
        elif any(row.due_in_s <= 0 for row in due):
            self._look_by(tenure.shard, now_s + self._busy_look_s(due))

    def _busy_look_s(self, due: list[DueWebhook]) -> float:
        """Something is due and nothing could start: a healthy webhook's slots free within moments, a suspect's do not."""
        is_soon = any(row.due_in_s <= 0 and not self._bulkheads.is_suspect(row.webhook_id) for row in due)
        return SOON_LOOK_S if is_soon else BUSY_LOOK_S

    def _look_by(self, shard: Shard, at_s: float) -> None:
        self._look_at_s[shard] = min(at_s, self._look_at_s.get(shard, at_s))

    def _wanted(self, due: list[DueWebhook], now_s: float) -> dict[WebhookId, Want]:
        """How many of each due webhook can start now, the longest due first, within the buffer's room.

        Of a webhook that is disabled or gone, due or not: what waits for it has nothing to wait for.
        """
        left = self._buffer.free_deliveries
        wanted: dict[WebhookId, Want] = {}
        for row in due:
            if left <= 0:
                break
            webhook = self._catalog.webhooks.get(row.webhook_id)
            if webhook is None and not self.knows_all_webhooks():
                continue
            if webhook is None or webhook.id in self._pipeline.disabled:
                wanted[row.webhook_id] = Want(UNKNOWN_WEBHOOK_AT_ONCE, CLAIM_GRACE_S, whenever=True)
                continue
            if row.due_in_s > 0:
                continue
            room = self._bulkheads.room_for(webhook, now_s, firsts_wait=self._buffer.waiting > 0)
            allowance = self._rates.allowance(webhook.id, self._buffer.lane(webhook.id).routed_ever, now_s)
            if room == 0 < allowance:
                self._bulkheads.keep_for_retry(webhook, now_s)
            count = min(room, row.depth, left, allowance)
            if count > 0:
                self._rates.spend(webhook.id, count)
                left -= count
                wanted[row.webhook_id] = Want(count, webhook.deadline_s + CLAIM_GRACE_S)
        return wanted
