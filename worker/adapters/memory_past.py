"""The twin of the past: same contract suite as `redis_past`, over the same shards as the rest of the twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_shard import DeadDelivery, MemoryShard, ParkedDelivery
from worker.domain.errors import CorruptRecord
from worker.domain.ids import DeliveryId, EventKey, Position, Shard, TenantId, WebhookId, delivery_id
from worker.domain.record import Heading, heading
from worker.event_integration.past import (
    DeliveryState,
    Enqueued,
    Letter,
    LetterFilter,
    LetterPage,
    LetterPlace,
    Moved,
    Moving,
    PastDelivery,
    Sighting,
    Stage,
    Stretch,
    Window,
)
from worker.journal.port import Done, NewEvent


class MemoryDeadLetters:
    """`DeadLetters` over the shards of one `MemoryStore`; `epoch_s` is what the clock's zero is on the wall."""

    def __init__(self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults, clock: Callable[[], float], epoch_s: float) -> None:
        self._shards = shards
        self._faults = faults
        self._clock = clock
        self._epoch_s = epoch_s

    async def page(self, wanted: LetterFilter, *, after: LetterPlace | None, limit: int, newest_first: bool = True) -> LetterPage:
        await self._faults.reach("letter_page")
        letters = [self._letter(state, dead) for state in self._shards.values() for dead in state.dead.values()]
        found = sorted((one for one in letters if _matches(one, wanted)), key=lambda one: one.place, reverse=newest_first)
        if after is not None:
            found = [one for one in found if (one.place < after if newest_first else one.place > after)]
        await self._faults.answered("letter_page")
        return LetterPage(found[:limit], found[limit - 1].place if len(found) > limit else None, self._ms(self._clock()))

    async def find(self, tenant_id: TenantId, delivery_id: DeliveryId) -> tuple[Letter, bytes | None] | None:
        await self._faults.reach("find_letter")
        for state in self._shards.values():
            dead = state.dead.get(delivery_id)
            if dead is not None and dead.letter.tenant_id == tenant_id:
                payload = state.payloads.get(dead.letter.event_key)
                return self._letter(state, dead), payload.record if payload else None
        return None

    async def discard(self, letters: Sequence[Letter]) -> int:
        await self._faults.reach("discard")
        discarded = sum(self._shards[letter.shard].forget_dead(letter.delivery_id) for letter in letters)
        await self._faults.answered("discard")
        return discarded

    async def replay(self, movings: Sequence[Moving]) -> list[Moved]:
        await self._faults.reach("replay")
        moved = [_replay(self._shards[moving.letter.shard], moving, self._clock()) for moving in movings]
        await self._faults.answered("replay")
        return moved

    def _letter(self, state: MemoryShard, dead: DeadDelivery) -> Letter:
        payload, letter = state.payloads.get(dead.letter.event_key), dead.letter
        return Letter(
            shard=state.shard,
            delivery_id=letter.delivery_id,
            event_key=letter.event_key,
            webhook_id=letter.webhook_id,
            tenant_id=letter.tenant_id,
            position=dead.position,
            reason=letter.reason,
            attempts=letter.attempts,
            error=letter.error,
            died_at_ms=self._ms(dead.died_at_s),
            heading=_heading(payload.record) if payload else None,
        )

    def _ms(self, clock_s: float) -> int:
        return int((clock_s + self._epoch_s) * 1000)


class MemoryPast:
    """`Past` over the shards of one `MemoryStore`."""

    def __init__(self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._shards = shards
        self._faults = faults
        self._clock = clock

    async def find(self, event_key: EventKey) -> Sighting | None:
        await self._faults.reach("find_event")
        for state in self._shards.values():
            position, payload = state.seen.position_of(event_key), state.payloads.get(event_key)
            if position is None and payload is None:
                continue
            event = None if position is None else _at(state, position)
            return Sighting(
                shard=state.shard,
                position=position,
                tenant_id=payload.tenant_id if payload else event.tenant_id if event else None,
                record=payload.record if payload else event.record if event else None,
                users=frozenset(payload.users) if payload else frozenset(),
            )
        return None

    async def states(
        self, shard: Shard, event_key: EventKey, position: Position | None, webhooks: Sequence[WebhookId]
    ) -> Mapping[WebhookId, DeliveryState]:
        await self._faults.reach("event_states")
        state = self._shards[shard]
        return {webhook_id: _state(state, event_key, position, webhook_id, self._clock()) for webhook_id in webhooks}

    async def journaled(self, shard: Shard, tenant_id: TenantId, window: Window, *, after: Position | None, limit: int) -> Stretch:
        del window  # who asks looks at `received_at`
        await self._faults.reach("past_events")
        found = [
            (Position(position), event.record)
            for segment in self._shards[shard].segments
            for position, event in enumerate(segment.events, start=segment.first)
            if event.tenant_id == tenant_id and position > (after or 0)
        ]
        return Stretch(found[:limit], found[limit][0] if len(found) > limit else None)

    async def enqueue(self, shard: Shard, items: Sequence[PastDelivery]) -> list[Enqueued]:
        await self._faults.reach("enqueue")
        state = self._shards[shard]
        state.room.check("enqueue")
        enqueued = [_enqueue(state, item, self._clock()) for item in items]
        await self._faults.answered("enqueue")
        return enqueued


def _matches(letter: Letter, wanted: LetterFilter) -> bool:
    return (
        letter.tenant_id == wanted.tenant_id
        and wanted.webhook_id in {None, letter.webhook_id}
        and wanted.reason in {None, letter.reason}
        and (wanted.instance_id is None or (letter.heading is not None and letter.heading.instance_id == wanted.instance_id))
        and (wanted.since_ms is None or letter.died_at_ms >= wanted.since_ms)
        and (wanted.until_ms is None or letter.died_at_ms < wanted.until_ms)
    )


def _heading(record: bytes) -> Heading | None:
    try:
        return heading(record)
    except CorruptRecord:
        return None


def _replay(state: MemoryShard, moving: Moving, now_s: float) -> Moved:
    letter, new_id = moving.letter, delivery_id(moving.letter.event_key, moving.to)
    if letter.delivery_id not in state.dead:
        return Moved.QUEUED if new_id in state.deliveries else Moved.GONE
    payload = state.payloads.get(letter.event_key)
    if payload is None:
        return Moved.EMPTY
    payload.users.add(moving.to)
    if new_id not in state.deliveries:
        item = PastDelivery(
            delivery_id=new_id,
            event_key=letter.event_key,
            webhook_id=moving.to,
            tenant_id=letter.tenant_id,
            position=letter.position,
            record=payload.record,
            due_in_s=moving.due_in_s,
        )
        state.enqueue(_delivery(item, now_s))
    del state.dead[letter.delivery_id]
    if new_id != letter.delivery_id and letter.delivery_id not in state.deliveries:
        state.release_payload(letter.event_key, letter.webhook_id)
    return Moved.QUEUED


def _enqueue(state: MemoryShard, item: PastDelivery, now_s: float) -> Enqueued:
    if item.delivery_id in state.dead:
        return Enqueued.DEAD
    if item.delivery_id in state.deliveries:
        return Enqueued.WAITS
    if not item.is_new_to_it and not _is_done(state, item.position, item.webhook_id):
        return Enqueued.WAITS
    state.keep_payload(item.event_key, item.tenant_id, item.record, item.webhook_id)
    state.enqueue(_delivery(item, now_s))
    return Enqueued.QUEUED


def _delivery(item: PastDelivery, now_s: float) -> ParkedDelivery:
    return ParkedDelivery(
        delivery_id=item.delivery_id,
        event_key=item.event_key,
        webhook_id=item.webhook_id,
        tenant_id=item.tenant_id,
        position=item.position,
        attempts=0,
        chat=None,
        parked_at_s=now_s,
        ready_at_s=now_s + item.due_in_s,
        claim=None,
        error=None,
    )


def _state(state: MemoryShard, event_key: EventKey, position: Position | None, webhook_id: WebhookId, now_s: float) -> DeliveryState:
    its_id = delivery_id(event_key, webhook_id)
    delivery, dead = state.deliveries.get(its_id), state.dead.get(its_id)
    if delivery is not None:
        stage = Stage.CLAIMED if delivery.claim is not None and delivery.ready_at_s > now_s else Stage.QUEUED
        next_in_s = max(0.0, delivery.ready_at_s - now_s)
        return DeliveryState(stage=stage, attempts=delivery.attempts, next_in_s=next_in_s, error=delivery.error)
    if dead is not None:
        return DeliveryState(stage=Stage.DEAD, attempts=dead.letter.attempts, error=dead.letter.error, reason=dead.letter.reason)
    if position is None:
        return DeliveryState(stage=Stage.UNKNOWN)
    return DeliveryState(stage=Stage.DONE if _is_done(state, position, webhook_id) else Stage.JOURNALED)


def _is_done(state: MemoryShard, position: Position, webhook_id: WebhookId) -> bool:
    return position < state.prefix or Done(position, None) in state.done or Done(position, webhook_id) in state.done


def _at(state: MemoryShard, position: Position) -> NewEvent | None:
    return next((s.events[position - s.first] for s in state.segments if s.first <= position < s.end), None)
