"""The twin of the retry queue, its dead letters and what the door asks: same contract suite as `redis_retry_queue`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_shard import DeadDelivery, MemoryRoomLimit, MemoryShard, ParkedDelivery
from worker.domain.ids import ClaimId, Shard, TenantId, Token, WebhookId
from worker.event_integration.retry_queue import (
    Claimed,
    DeadLetter,
    DeadReason,
    DueWebhook,
    Parked,
    Parking,
    Settled,
    Settlement,
    Waiting,
    Want,
)
from worker.journal.port import Done

_LOOKED_AT = 200


class MemoryRetryQueue:
    """`RetryQueue` over the shards of one `MemoryStore`."""

    def __init__(self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._shards = shards
        self._faults = faults
        self._clock = clock

    async def park(self, shard: Shard, token: Token, items: Sequence[Parking]) -> list[Parked]:
        await self._faults.reach("park")
        state = self._shards[shard]
        state.guard(token)
        state.room.check("park")
        answers = [_park(state, item, self._clock()) for item in items]
        await self._faults.answered("park")
        return answers

    async def due(self, shard: Shard, *, limit: int) -> list[DueWebhook]:
        await self._faults.reach("due")
        now_s = self._clock()
        state = self._shards[shard]
        ready = {webhook_id: line for webhook_id, line in state.due.items() if webhook_id not in state.held}
        queued = sorted((line.lowest_score(), webhook_id, len(line)) for webhook_id, line in ready.items())
        await self._faults.answered("due")
        return [DueWebhook(webhook_id, at_s - now_s, depth) for at_s, webhook_id, depth in queued[:limit]]

    async def waiting_of(self, shard: Shard, webhooks: Sequence[WebhookId]) -> list[DueWebhook]:
        await self._faults.reach("waiting_of")
        now_s, lines = self._clock(), self._shards[shard].due
        rows = [DueWebhook(w, lines[w].lowest_score() - now_s, len(lines[w])) for w in webhooks if w in lines]
        await self._faults.answered("waiting_of")
        return rows

    async def claim(self, shard: Shard, token: Token, wanted: Mapping[WebhookId, Want]) -> list[Claimed]:
        await self._faults.reach("claim")
        state = self._shards[shard]
        state.guard(token)
        claimed = [c for webhook_id, want in wanted.items() for c in _claim(state, webhook_id, want, self._clock())]
        await self._faults.answered("claim")
        return claimed

    async def settle(self, shard: Shard, settlements: Sequence[Settlement]) -> list[Settled]:
        await self._faults.reach("settle")
        state = self._shards[shard]
        answers = [_settle(state, settlement, self._clock()) for settlement in settlements]
        await self._faults.answered("settle")
        return answers

    async def hold(self, shard: Shard, token: Token, held: Collection[WebhookId]) -> None:
        await self._faults.reach("hold")
        state = self._shards[shard]
        state.guard(token)
        state.held = frozenset(held)
        await self._faults.answered("hold")

    async def waiting_chats(self, shard: Shard, webhooks: Sequence[WebhookId]) -> dict[WebhookId, dict[str, int]]:
        await self._faults.reach("waiting_chats")
        asked, chats = set(webhooks), dict[WebhookId, dict[str, int]]()
        for (webhook_id, chat), line in self._shards[shard].order.items():
            if webhook_id in asked:
                chats.setdefault(webhook_id, {})[chat] = len(line)
        await self._faults.answered("waiting_chats")
        return chats


class MemoryRoom:
    """`Room` over the shards of one `MemoryStore`."""

    def __init__(
        self, shards: Mapping[Shard, MemoryShard], faults: StoreFaults, clock: Callable[[], float], limit: MemoryRoomLimit
    ) -> None:
        self._shards = shards
        self._faults = faults
        self._clock = clock
        self._limit = limit

    async def waiting(self, shards: Sequence[Shard]) -> dict[Shard, dict[TenantId, Waiting]]:
        await self._faults.reach("waiting")
        return {shard: dict(self._shards[shard].waiting) for shard in shards}

    async def memory_fill(self) -> float:
        await self._faults.reach("memory_fill")
        return self._limit.fill()

    async def dead_letters(self, shard: Shard, *, limit: int) -> list[DeadLetter]:
        await self._faults.reach("dead_letters")
        oldest = _oldest_dead(self._shards[shard])[:limit]
        return [_aged(dead, self._clock()) for dead in oldest]

    async def expire_dead_letters(self, shard: Shard, *, older_than_s: float, limit: int) -> int:
        await self._faults.reach("expire_dead_letters")
        state = self._shards[shard]
        born_before_s = self._clock() - older_than_s
        expired = [dead.letter for dead in _oldest_dead(state) if dead.died_at_s <= born_before_s][:limit]
        for letter in expired:
            state.forget_dead(letter.delivery_id)
        await self._faults.answered("expire_dead_letters")
        return len(expired)


def _park(state: MemoryShard, item: Parking, now_s: float) -> Parked:
    fact = Done(item.position, item.webhook_id)
    delivery = state.deliveries.get(item.delivery_id)
    is_done = item.position < state.prefix or fact in state.done or Done(item.position, None) in state.done
    if delivery is None and is_done:
        return Parked(known_done=True, claim=None)
    state.keep_payload(item.event_key, item.tenant_id, item.record, item.webhook_id)
    if item.position >= state.prefix:
        state.done.add(fact)
    if delivery is None:
        delivery = _delivery_of(item, now_s)
        state.enqueue(delivery)
    delivery.attempts = max(delivery.attempts, item.attempts)
    if item.dead is not None:
        _bury(state, delivery, item.dead, item.error, now_s)
        return Parked(known_done=False, claim=None)
    if item.claim_for_s is None:
        return Parked(known_done=False, claim=None)
    return Parked(known_done=False, claim=_give_claim(state, delivery, now_s + item.claim_for_s))


def _delivery_of(item: Parking, now_s: float) -> ParkedDelivery:
    return ParkedDelivery(
        delivery_id=item.delivery_id,
        event_key=item.event_key,
        webhook_id=item.webhook_id,
        tenant_id=item.tenant_id,
        position=item.position,
        attempts=item.attempts,
        chat=item.chat or None,
        parked_at_s=now_s,
        ready_at_s=now_s + item.due_in_s,
        claim=None,
        error=item.error,
    )


def _give_claim(state: MemoryShard, delivery: ParkedDelivery, visible_at_s: float) -> ClaimId:
    """The newest claim is the delivery's; any earlier one settles nothing any more."""
    state.claims += 1
    delivery.claim = ClaimId(state.claims)
    delivery.ready_at_s = visible_at_s
    state.schedule(delivery)
    return delivery.claim


def _claim(state: MemoryShard, webhook_id: WebhookId, want: Want, now_s: float) -> list[Claimed]:
    ready = state.due.get(webhook_id)
    if ready is None or webhook_id in state.held:
        return []
    due = ready.up_to(math.inf, _LOOKED_AT) if want.whenever else ready.up_to(now_s, want.count)
    open_to_us = (one for one in map(state.deliveries.__getitem__, due) if one.claim is None or one.ready_at_s <= now_s)
    return [
        Claimed(
            claim=_give_claim(state, delivery, now_s + want.visible_after_s),
            delivery_id=delivery.delivery_id,
            event_key=delivery.event_key,
            webhook_id=webhook_id,
            tenant_id=delivery.tenant_id,
            position=delivery.position,
            record=state.payloads[delivery.event_key].record,
            attempts=delivery.attempts,
            parked_for_s=now_s - delivery.parked_at_s,
            chat=delivery.chat,
        )
        for delivery in list(open_to_us)[: want.count]
    ]


def _settle(state: MemoryShard, settlement: Settlement, now_s: float) -> Settled:
    delivery = state.deliveries.get(settlement.delivery_id)
    if delivery is None or delivery.claim != settlement.claim:
        return Settled(is_settled=False, chat_left=0)
    if settlement.delivered:
        state.dequeue(delivery)
        state.dead.pop(delivery.delivery_id, None)
        state.release_payload(delivery.event_key, delivery.webhook_id)
    else:
        delivery.attempts += settlement.counted
        if settlement.dead is not None:
            _bury(state, delivery, settlement.dead, settlement.error, now_s)
        else:
            _retry(state, delivery, now_s + (settlement.retry_in_s or 0.0), settlement.error)
    return Settled(is_settled=True, chat_left=state.waiting_in_chat_of(delivery))


def _retry(state: MemoryShard, delivery: ParkedDelivery, due_at_s: float, error: str | None) -> None:
    delivery.claim = None
    delivery.error = error or delivery.error
    delivery.ready_at_s = due_at_s
    state.schedule(delivery)


def _bury(state: MemoryShard, delivery: ParkedDelivery, reason: DeadReason, error: str | None, now_s: float) -> None:
    """A dead letter keeps its payload, and frees the next of its chat."""
    state.dequeue(delivery)
    letter = DeadLetter(
        delivery_id=delivery.delivery_id,
        event_key=delivery.event_key,
        webhook_id=delivery.webhook_id,
        tenant_id=delivery.tenant_id,
        reason=reason,
        attempts=delivery.attempts,
        error=error or delivery.error,
        dead_for_s=0.0,
    )
    state.dead[delivery.delivery_id] = DeadDelivery(now_s, delivery.position, letter)


def _oldest_dead(state: MemoryShard) -> list[DeadDelivery]:
    return sorted(state.dead.values(), key=lambda dead: (dead.died_at_s, dead.letter.delivery_id))


def _aged(dead: DeadDelivery, now_s: float) -> DeadLetter:
    return replace(dead.letter, dead_for_s=now_s - dead.died_at_s)
