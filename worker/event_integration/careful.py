"""Careful reading: one event at a time, marked in the store before it is opened, tried out, unmarked, and only then taken in.

```
mark ──▶ rehearse (decode, route, build, sign) ──▶ unmark ──▶ take in as ever
  └── whoever finds the mark again at its own start, a second time: the event is poison, one dead letter, never opened
```

For a shard whose earlier owners died over it (`journal/care.py` knows when, docs/decisions/0009-poison.md why). Not the hot path:
two calls to the store per event.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import structlog

from worker.client_registry.tenure import Tenure
from worker.domain.deadline import Deadline
from worker.domain.ids import Position, TenantId, delivery_id
from worker.domain.record import decode
from worker.event_buffer.deliveries import BufferedEvent, Delivery
from worker.event_integration.pipeline import Pipeline, Unopened
from worker.event_integration.retry_queue import DeadReason
from worker.event_integration.settling import Settling
from worker.journal.care import NOBODY, Care, Look
from worker.journal.port import Checkpoints, Segment

log = structlog.get_logger()

A_TURN_S = 1.0
"""Then other shards are read; and the reader's own sign of life must not wait for a whole segment."""

BURIED_WITHIN_S = 2.0
WHY = "the worker ended each time it read this event"


class CarefulReading:
    """The reader hands over the segments of tenures that have a `care`."""

    def __init__(self, checkpoints: Checkpoints, settling: Settling, pipeline: Pipeline, clock: Callable[[], float]) -> None:
        self._checkpoints = checkpoints
        self._settling = settling
        self._pipeline = pipeline
        self._clock = clock
        self.knows_chats: Callable[[Tenure], bool] = lambda _tenure: True
        """False: a webhook has come to want order, and its waiting chats are to be loaded before anything more is taken in."""

    async def take_in(self, tenure: Tenure, care: Care, segment: Segment) -> None:
        """As much of the segment as fits into a turn; the cursor tells how much. Raises `StaleToken`, `StoreUnavailable`, `StoreFull`.

        Cancelling it leaves a mark in the store, which by itself convicts nobody.
        """
        ends_at_s = self._clock() + A_TURN_S
        for index, data in enumerate(segment.records):
            position = Position(segment.first + index)
            if position < tenure.completion.cursor:
                continue
            if not await self._has_buried(tenure, care):
                return
            look = care.look(position)
            if look is Look.CAREFULLY:
                await self._try_out(tenure, care, position, data)
            now_s = self._clock()
            if not tenure.is_reading or not tenure.may_write(now_s) or not self.knows_chats(tenure):
                return  # asked after the last await: what is taken in beyond a drain's last look would be nobody's
            self._take_in_one(tenure, look, position, data, segment.tenants[index].decode())
            if now_s >= ends_at_s:
                break
        self._end(tenure, care)

    async def _try_out(self, tenure: Tenure, care: Care, position: Position, data: bytes) -> None:
        if not care.has_begun:
            care.has_begun = True
            log.warning(
                "careful_reading_begins", shard=tenure.shard, cause=care.why, events=care.left, next_step="one event at a time, each marked"
            )
        await self._checkpoints.mark_reading(tenure.shard, tenure.token, position)
        await self._rehearse(tenure, position, data)
        await self._checkpoints.mark_reading(tenure.shard, tenure.token, None)
        care.note_survived()

    async def _has_buried(self, tenure: Tenure, care: Care) -> bool:
        """Whether the poison is a dead letter in the store. The next mark may put another suspect in its place: then only that protects."""
        if care.poison is None or not tenure.completion.is_open(care.poison, NOBODY):
            return True
        return await self._settling.wait_written(tenure.shard, Deadline("poison_buried", self._clock() + BURIED_WITHIN_S))

    async def _rehearse(self, tenure: Tenure, position: Position, data: bytes) -> None:
        """What is ours to do before the transport has the requests, for nothing: to see whether we live through it.

        An exception is no poison: `take_in`, or the attempt, meets it again and makes it a dead letter.
        """
        pipeline = self._pipeline
        with suppress(Exception):
            record = decode(data)
            event = BufferedEvent(tenure, position, record, len(data), self._clock())
            for webhook in pipeline.router.routes(record):
                if webhook.id not in pipeline.disabled:
                    with suppress(Exception):
                        await pipeline.builder.build(webhook, Delivery(event, webhook.id, delivery_id(record.event_key, webhook.id)))

    def _take_in_one(self, tenure: Tenure, look: Look, position: Position, data: bytes, tenant: str) -> None:
        if look is Look.BURIED:
            tenure.completion.begin(position, TenantId(tenant), len(data), [NOBODY])
        elif look is Look.POISON:
            log.error(
                "event_is_poison",
                shard=tenure.shard,
                position=position,
                tenant=tenant,
                cause=WHY,
                next_step="it is a dead letter now, unopened; report it with its bytes",
            )
            self._pipeline.bury(tenure, Unopened(position, TenantId(tenant), data), DeadReason.POISON, WHY)
        else:
            self._pipeline.take_in(tenure, position, data, self._clock())

    def _end(self, tenure: Tenure, care: Care) -> None:
        if care.is_over(tenure.completion.cursor):
            tenure.completion.care = None
            if care.has_begun:
                log.info("careful_reading_ends", shard=tenure.shard, cause="enough was read carefully", next_step="read as ever")
