"""The retry queue, its dead letters and the room they take, on Redis. The scripts hold the rules; here is only their wording."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from worker.adapters.redis_client import Argument, RedisClient, Script
from worker.adapters.redis_journal import guarded
from worker.adapters.redis_keys import ShardKeys
from worker.domain.ids import ClaimId, DeliveryId, EventKey, Position, Shard, TenantId, Token, WebhookId
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

PARK = Script("park", "clock", "fence", "queue")
CLAIM = Script("claim", "clock", "fence", "queue")
SETTLE = Script("settle", "clock", "queue")
HOLD = Script("hold", "clock", "fence", "queue")
DEAD_LETTERS = Script("dead_letters", "clock")
DISCARD = Script("discard", "clock", "queue")
SCRIPTS = (PARK, CLAIM, SETTLE, HOLD, DEAD_LETTERS, DISCARD)

T = TypeVar("T")

BATCH = 64
"""Deliveries per script: what one call may do while others wait for the server. Longer lists go in several calls."""
_KNOWN_DONE = -1


class RedisRetryQueue:
    """`RetryQueue` over the sorted sets of one shard each."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def park(self, shard: Shard, token: Token, items: Sequence[Parking]) -> list[Parked]:
        k, parked = ShardKeys(shard), list[Parked]()
        fixed = (k.fence, k.cursor, k.done, k.waiting, k.deliveries, k.claims, k.due, k.dead, k.dead_at, k.held)
        for batch in _batches(items):
            keys, args = [*fixed], list[Argument]([token])
            for item in batch:
                keys += (k.payload(item.event_key), *k.line_of(item.webhook_id))
                args += _parking_args(item)
            answers = await guarded(self._data, shard, token, PARK.call(keys, args))
            parked += [Parked(answer == _KNOWN_DONE, ClaimId(answer) if answer > 0 else None) for answer in answers]
        return parked

    async def due(self, shard: Shard, *, limit: int) -> list[DueWebhook]:
        k = ShardKeys(shard)
        time, scored = await self._data.exchange([("TIME",), ("ZRANGE", k.due, 0, limit - 1, "WITHSCORES")])
        if not scored:
            return []
        now_s = int(time[0]) + int(time[1]) / 1_000_000
        webhooks = [WebhookId(name.decode()) for name in scored[::2]]
        depths = await self._data.exchange([("ZCARD", k.due_of(webhook)) for webhook in webhooks])
        due_at_s = [float(score) / 1000 for score in scored[1::2]]
        return [DueWebhook(w, at_s - now_s, depth) for w, at_s, depth in zip(webhooks, due_at_s, depths, strict=True)]

    async def waiting_of(self, shard: Shard, webhooks: Sequence[WebhookId]) -> list[DueWebhook]:
        k, rows = ShardKeys(shard), list[DueWebhook]()
        for batch in _batches(webhooks):
            lines = [k.due_of(webhook_id) for webhook_id in batch]
            heads = [("ZRANGE", line, 0, 0, "WITHSCORES") for line in lines]
            time, *replies = await self._data.exchange([("TIME",), *heads, *(("ZCARD", line) for line in lines)])
            now_s = int(time[0]) + int(time[1]) / 1_000_000
            found = zip(batch, replies[: len(batch)], replies[len(batch) :], strict=True)
            rows += [DueWebhook(webhook_id, float(head[1]) / 1000 - now_s, depth) for webhook_id, head, depth in found if head]
        return rows

    async def claim(self, shard: Shard, token: Token, wanted: Mapping[WebhookId, Want]) -> list[Claimed]:
        k = ShardKeys(shard)
        keys, args = [k.fence, k.deliveries, k.claims, k.due, k.held], list[Argument]([token])
        for webhook_id, want in wanted.items():
            due, _, order = k.line_of(webhook_id)
            keys += (due, order)
            args += (webhook_id, want.count, _ms(want.visible_after_s), int(want.whenever))
        rows = await guarded(self._data, shard, token, CLAIM.call(keys, args))
        if not rows:
            return []
        # The payloads' keys were not known before. They cannot go meanwhile: each delivery is still a user of its own.
        records = await self._data.exchange([("HGET", k.payload(EventKey(row[2].decode())), "r") for row in rows])
        claimed = [_claimed(row, record) for row, record in zip(rows, records, strict=True) if record is not None]
        if len(claimed) < len(rows):
            await self._bury_without_record(shard, [row for row, record in zip(rows, records, strict=True) if record is None])
        return claimed

    async def settle(self, shard: Shard, settlements: Sequence[Settlement]) -> list[Settled]:
        k, settled = ShardKeys(shard), list[Settled]()
        for batch in _batches(settlements):
            keys, args = [k.deliveries, k.due, k.waiting, k.dead, k.dead_at, k.claims, k.held], list[Argument]()
            for item in batch:
                keys += (k.payload(item.event_key), *k.line_of(item.webhook_id))
                args += _settlement_args(item)
            answers = await self._data.call(*SETTLE.call(keys, args))
            settled += [Settled(is_settled=answer > 0, chat_left=max(0, answer - 1)) for answer in answers]
        return settled

    async def waiting_chats(self, shard: Shard, webhooks: Sequence[WebhookId]) -> dict[WebhookId, dict[str, int]]:
        if not webhooks:
            return {}
        k = ShardKeys(shard)
        replies = await self._data.exchange([("HGETALL", k.line_of(webhook)[1]) for webhook in webhooks])
        return {webhook: _chats(reply) for webhook, reply in zip(webhooks, replies, strict=True) if reply}

    async def hold(self, shard: Shard, token: Token, held: Collection[WebhookId]) -> None:
        k, wanted = ShardKeys(shard), frozenset(held)
        # Read beside the script, for its keys must be named. Only the owner writes them: whoever is not that any more is refused.
        stored = frozenset(WebhookId(name.decode()) for name in await self._data.call("SMEMBERS", k.held))
        for batch in list(_batches(sorted(stored ^ wanted))) or [[]]:
            args = [word for webhook_id in batch for word in (webhook_id, int(webhook_id in wanted))]
            keys = (k.fence, k.held, k.due, *(k.due_of(webhook_id) for webhook_id in batch))
            await guarded(self._data, shard, token, HOLD.call(keys, (token, *args)))

    async def _bury_without_record(self, shard: Shard, rows: Sequence[list[bytes | int]]) -> None:
        """Only damage from outside takes a payload away; such a delivery would else be claimed for ever."""
        await self.settle(shard, [_without_record(_claimed(row, b"")) for row in rows])


class RedisRoom:
    """`Room`: sums and lists for the door and for operators."""

    def __init__(self, data: RedisClient) -> None:
        self._data = data

    async def waiting(self, shards: Sequence[Shard]) -> dict[Shard, dict[TenantId, Waiting]]:
        if not shards:
            return {}
        replies = await self._data.exchange([("HGETALL", ShardKeys(shard).waiting) for shard in shards])
        return {shard: _waiting(reply) for shard, reply in zip(shards, replies, strict=True)}

    async def memory_fill(self) -> float:
        text = (await self._data.call("INFO", "memory")).decode()
        info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        limit = int(info.get("maxmemory", 0))
        return int(info["used_memory"]) / limit if limit else 0.0

    async def dead_letters(self, shard: Shard, *, limit: int) -> list[DeadLetter]:
        return await self._dead_letters(shard, older_than_s=0.0, limit=limit)

    async def expire_dead_letters(self, shard: Shard, *, older_than_s: float, limit: int) -> int:
        k, expired = ShardKeys(shard), 0
        for batch in _batches(await self._dead_letters(shard, older_than_s=older_than_s, limit=limit)):
            keys = [k.dead, k.dead_at, k.waiting, k.deliveries, *(k.payload(letter.event_key) for letter in batch)]
            names = [name for letter in batch for name in (letter.delivery_id, letter.webhook_id)]
            expired += await self._data.call(*DISCARD.call(keys, (_ms(older_than_s), *names)))
        return expired

    async def _dead_letters(self, shard: Shard, *, older_than_s: float, limit: int) -> list[DeadLetter]:
        k = ShardKeys(shard)
        rows = await self._data.call(*DEAD_LETTERS.call((k.dead, k.dead_at), (_ms(older_than_s), limit)))
        return [_dead_letter(row) for row in rows]


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _parking_args(item: Parking) -> tuple[Argument, ...]:
    return (
        item.delivery_id,
        item.event_key,
        item.webhook_id,
        item.tenant_id,
        item.position,
        item.record,
        item.attempts,
        _ms(item.due_in_s),
        _stored(item.chat or ""),
        item.error or "",
        "" if item.claim_for_s is None else _ms(item.claim_for_s),
        item.dead or "",
    )


def _stored(chat: str) -> str:
    """NUL ends a chat in `order`: one that holds it would mix with another's line, so here no stored chat does."""
    return chat.replace("\1", "\1\2").replace("\0", "\1\1")


def _chat(stored: bytes) -> str:
    return stored.decode().replace("\1\1", "\0").replace("\1\2", "\1")


def _settlement_args(item: Settlement) -> tuple[Argument, ...]:
    outcome = "ok" if item.delivered else "retry" if item.dead is None else "dead"
    return (
        item.claim,
        item.delivery_id,
        item.webhook_id,
        outcome,
        _ms(item.retry_in_s or 0.0),
        int(item.counted),
        item.dead or "",
        item.error or "",
    )


def _claimed(row: list[bytes | int], record: bytes) -> Claimed:
    claim, delivery_id, event_key, webhook_id, tenant_id, position, attempts, parked_for_ms, chat = row
    assert isinstance(chat, bytes)
    return Claimed(
        claim=ClaimId(int(claim)),
        delivery_id=DeliveryId(_text(delivery_id)),
        event_key=EventKey(_text(event_key)),
        webhook_id=WebhookId(_text(webhook_id)),
        tenant_id=TenantId(_text(tenant_id)),
        position=Position(int(position)),
        record=record,
        attempts=int(attempts),
        parked_for_s=int(parked_for_ms) / 1000,
        chat=_chat(chat) or None,
    )


def _without_record(claimed: Claimed) -> Settlement:
    return Settlement(
        claim=claimed.claim,
        delivery_id=claimed.delivery_id,
        event_key=claimed.event_key,
        webhook_id=claimed.webhook_id,
        counted=False,
        dead=DeadReason.INTERNAL_ERROR,
        error="its payload is not in the store any more",
    )


def _dead_letter(row: list[bytes | int]) -> DeadLetter:
    delivery_id, event_key, webhook_id, tenant_id, reason, attempts, error, dead_for_ms = row
    return DeadLetter(
        delivery_id=DeliveryId(_text(delivery_id)),
        event_key=EventKey(_text(event_key)),
        webhook_id=WebhookId(_text(webhook_id)),
        tenant_id=TenantId(_text(tenant_id)),
        reason=DeadReason(_text(reason)),
        attempts=int(attempts),
        error=_text(error) or None,
        dead_for_s=int(dead_for_ms) / 1000,
    )


def _text(value: bytes | int) -> str:
    assert isinstance(value, bytes)
    return value.decode()


def _chats(reply: Sequence[bytes]) -> dict[str, int]:
    return {_chat(chat): int(count) for chat, count in zip(reply[::2], reply[1::2], strict=True)}


def _waiting(reply: Sequence[bytes]) -> dict[TenantId, Waiting]:
    """Journal (`n`, `b`) and payloads (`pn`, `pb`) together; a figure that a double count drove below nothing counts as nothing."""
    sums: dict[TenantId, list[int]] = {}
    for field, value in zip(reply[::2], reply[1::2], strict=True):
        tenant, _, kind = field.decode().rpartition("|")
        sums.setdefault(TenantId(tenant), [0, 0])[kind.endswith("b")] += max(0, int(value))
    return {tenant: Waiting(*figures) for tenant, figures in sums.items() if any(figures)}
