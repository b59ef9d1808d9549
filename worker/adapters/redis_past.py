"""The past on Redis: dead letters as an operator sees them, and what the journal still keeps. The scripts hold the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio

from worker.adapters.redis_client import Argument, Command, RedisClient, Script
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_retry_queue import DISCARD
from worker.domain.errors import CorruptRecord
from worker.domain.ids import DeliveryId, EventKey, Position, Shard, TenantId, WebhookId, delivery_id, shard_of
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
from worker.event_integration.retry_queue import DeadReason

LETTER_PAGE = Script("letter_page", "clock")
HEADINGS = Script("headings")
REPLAY = Script("replay", "clock", "queue")
EVENT_STATES = Script("event_states", "clock", "queue")
PAST_EVENTS = Script("past_events", "clock")
ENQUEUE = Script("enqueue", "clock", "queue")
SCRIPTS = (LETTER_PAGE, HEADINGS, REPLAY, EVENT_STATES, PAST_EVENTS, ENQUEUE)

LOOKED_AT = 1_000
"""Dead letters per shard and call: some milliseconds in which nobody else is served, so shards are asked one after the other."""
LOOKS_AT_ONCE = 2
SHARE, SHARE_AT_LEAST = 4, 100
"""One shard gives at most a quarter of a long page: sixteen whole ones would be read to throw most of them away."""
BATCH = 64
HEADINGS_AT_ONCE = 16
"""A record may have megabytes, and the server reads it whole."""
SEGMENTS = 64
STRETCH_BYTES = 2 << 20
CLOCKS_DIFFER_MS = 60_000
"""How far a worker's wall clock, which stamps `received_at`, may be from the store's."""
_LAST = "-18446744073709551615"
_MOVED = {1: Moved.QUEUED, 0: Moved.GONE, -1: Moved.EMPTY}
_ENQUEUED = {1: Enqueued.QUEUED, 0: Enqueued.WAITS, -1: Enqueued.DEAD}


class RedisDeadLetters:
    """`DeadLetters` over `dead` and `dead:at` of all shards."""

    def __init__(self, data: RedisClient, *, shards: int, looked_at: int = LOOKED_AT) -> None:
        self._data = data
        self._shards = shards
        self._looked_at = looked_at
        self._looks = anyio.Semaphore(LOOKS_AT_ONCE)

    async def page(self, wanted: LetterFilter, *, after: LetterPlace | None, limit: int, newest_first: bool = True) -> LetterPage:
        shards = [Shard(n) for n in range(self._shards)]
        if wanted.instance_id is not None:
            shards = [shard_of(wanted.instance_id, self._shards)]
        args = _page_args(wanted, after, newest_first=newest_first)
        matches = min(limit, max(SHARE_AT_LEAST, limit // SHARE))
        async with self._looks:
            answers = [await self._look(shard, (*args, matches, self._looked_at)) for shard in shards]
        merged = [_letter(shard, row) for shard, answer in zip(shards, answers, strict=True) for row in answer[4:]]
        merged.sort(key=lambda letter: letter.place, reverse=newest_first)
        page = cut([_seen_to(answer) for answer in answers], merged, limit, newest_first=newest_first)
        letters = await self._headed(page.letters)
        if wanted.instance_id is not None:
            letters = [one for one in letters if one.heading is not None and one.heading.instance_id == wanted.instance_id]
        return LetterPage(letters, page.next, max(answer[0] for answer in answers))

    async def find(self, tenant_id: TenantId, delivery_id: DeliveryId) -> tuple[Letter, bytes | None] | None:
        shards = [Shard(n) for n in range(self._shards)]
        found = await self._data.exchange([("ZSCORE", ShardKeys(shard).dead_at, delivery_id) for shard in shards])
        for shard, score in zip(shards, found, strict=True):
            if score is not None:
                return await self._opened(shard, tenant_id, delivery_id, int(score))
        return None

    async def discard(self, letters: Sequence[Letter]) -> int:
        discarded = 0
        for shard, numbers in _by_shard([letter.shard for letter in letters]):
            k, mine = ShardKeys(shard), [letters[number] for number in numbers]
            keys = (k.dead, k.dead_at, k.waiting, k.deliveries, *(k.payload(letter.event_key) for letter in mine))
            names = [name for letter in mine for name in (letter.delivery_id, letter.webhook_id)]
            discarded += await self._data.call(*DISCARD.call(keys, (0, *names)))
        return discarded

    async def replay(self, movings: Sequence[Moving]) -> list[Moved]:
        moved = [Moved.GONE] * len(movings)
        for shard, numbers in _by_shard([moving.letter.shard for moving in movings]):
            k = ShardKeys(shard)
            keys, args = [k.deliveries, k.due, k.waiting, k.dead, k.dead_at, k.held], list[Argument]()
            for letter, to, due_in_s in (movings[number] for number in numbers):
                keys += (k.payload(letter.event_key), k.due_of(to))
                args += (letter.delivery_id, delivery_id(letter.event_key, to), to, _ms(due_in_s))
            for number, answer in zip(numbers, await self._data.call(*REPLAY.call(keys, args)), strict=True):
                moved[number] = _MOVED[answer]
        return moved

    async def _look(self, shard: Shard, args: Sequence[Argument]) -> list[Any]:
        k = ShardKeys(shard)
        answer: list[Any] = await self._data.call(*LETTER_PAGE.call((k.dead, k.dead_at), args))
        return answer

    async def _opened(
        self, shard: Shard, tenant_id: TenantId, delivery_id: DeliveryId, died_at_ms: int
    ) -> tuple[Letter, bytes | None] | None:
        """By the script that lists, for letters are packed: of those that died in that millisecond the one."""
        k = ShardKeys(shard)
        behind = (tenant_id, "", "", died_at_ms, died_at_ms, 1, "", "", self._looked_at, self._looked_at)
        answer = await self._look(shard, behind)
        for letter in (_letter(shard, row) for row in answer[4:]):
            if letter.delivery_id == delivery_id:
                record = await self._data.call("HGET", k.payload(letter.event_key), "r")
                return replace(letter, heading=read_heading(record or b"")), record
        return None

    async def _headed(self, letters: Sequence[Letter]) -> list[Letter]:
        headed = list(letters)
        for shard, numbers in _by_shard([letter.shard for letter in letters], at_once=HEADINGS_AT_ONCE):
            keys = [ShardKeys(shard).payload(letters[number].event_key) for number in numbers]
            for number, beginning in zip(numbers, await self._data.call(*HEADINGS.call(keys, ())), strict=True):
                headed[number] = replace(letters[number], heading=read_heading(beginning))
        return headed


class RedisPast:
    """`Past` over the journal, the remembered keys and the payloads of all shards."""

    def __init__(self, data: RedisClient, *, shards: int) -> None:
        self._data = data
        self._shards = shards

    async def find(self, event_key: EventKey) -> Sighting | None:
        all_keys = [ShardKeys(Shard(n)) for n in range(self._shards)]
        commands: list[Command] = []
        for k in all_keys:
            commands += [("HGET", slot, event_key) for slot in k.ring]
            commands.append(("EXISTS", k.payload(event_key)))
        answers, stride = await self._data.exchange(commands), len(all_keys[0].ring) + 1
        for number in range(self._shards):
            *slots, is_kept = answers[number * stride : (number + 1) * stride]
            position = next((Position(int(found)) for found in slots if found is not None), None)
            if position is not None or is_kept:
                return await self._sighting(Shard(number), event_key, position)
        return None

    async def states(
        self, shard: Shard, event_key: EventKey, position: Position | None, webhooks: Sequence[WebhookId]
    ) -> Mapping[WebhookId, DeliveryState]:
        k = ShardKeys(shard)
        args: list[Argument] = ["" if position is None else position]
        for webhook_id in webhooks:
            args += (delivery_id(event_key, webhook_id), webhook_id)
        rows = await self._data.call(*EVENT_STATES.call((k.deliveries, k.dead, k.cursor, k.done), args))
        return {webhook_id: _state(row) for webhook_id, row in zip(webhooks, rows, strict=True)}

    async def journaled(self, shard: Shard, tenant_id: TenantId, window: Window, *, after: Position | None, limit: int) -> Stretch:
        k = ShardKeys(shard)
        since_ms, until_ms = window.since_ms - CLOCKS_DIFFER_MS, window.until_ms + CLOCKS_DIFFER_MS
        args = (tenant_id, "" if after is None else after + 1, since_ms, until_ms, SEGMENTS, limit, STRETCH_BYTES)
        following, *entries = await self._data.call(*PAST_EVENTS.call((k.journal, k.marks, k.tail), args))
        found = [(Position(position), record) for position, record in zip(entries[::2], entries[1::2], strict=True)]
        return Stretch(found, Position(following) if following else None)

    async def enqueue(self, shard: Shard, items: Sequence[PastDelivery]) -> list[Enqueued]:
        k, enqueued = ShardKeys(shard), list[Enqueued]()
        for start in range(0, len(items), BATCH):
            keys, args = [k.cursor, k.done, k.waiting, k.deliveries, k.due, k.dead, k.held], list[Argument]()
            for item in items[start : start + BATCH]:
                keys += (k.payload(item.event_key), k.due_of(item.webhook_id))
                args += (item.delivery_id, item.event_key, item.webhook_id, item.tenant_id, item.position, item.record)
                args += (_ms(item.due_in_s), int(item.is_new_to_it))
            enqueued += [_ENQUEUED[answer] for answer in await self._data.call(*ENQUEUE.call(keys, args))]
        return enqueued

    async def _sighting(self, shard: Shard, event_key: EventKey, position: Position | None) -> Sighting:
        k = ShardKeys(shard)
        payload = k.payload(event_key)
        entry: Command = ("XREVRANGE", k.journal, f"{position or 0}{_LAST}", "-", "COUNT", 1)
        kept, names, segment = await self._data.exchange([("HMGET", payload, "t", "r"), ("HKEYS", payload), entry])
        tenant, record = kept if kept[1] is not None else _entry_of(segment, position)
        users = frozenset(WebhookId(name[2:].decode()) for name in names if name.startswith(b"u:"))
        tenant_id = None if tenant is None else TenantId(tenant.decode())
        return Sighting(shard=shard, position=position, tenant_id=tenant_id, record=record, users=users)


def cut(seen_to: Sequence[LetterPlace | None], merged: Sequence[Letter], limit: int, *, newest_first: bool) -> LetterPage:
    """A page out of what several shards answered. Pure. `merged` is in order.

    Each shard was looked at down to a place (None: to its end); beyond the nearest of these, letters may be missing.
    """
    places = [place for place in seen_to if place is not None]
    horizon = (max(places) if newest_first else min(places)) if places else None
    known = [one for one in merged if horizon is None or (one.place >= horizon if newest_first else one.place <= horizon)]
    if len(known) > limit:
        return LetterPage(known[:limit], known[limit - 1].place, 0)
    return LetterPage(known, horizon, 0)


def read_heading(beginning: bytes) -> Heading | None:
    try:
        return heading(beginning)
    except CorruptRecord:
        return None


def _by_shard(shards: Sequence[Shard], at_once: int = BATCH) -> list[tuple[Shard, list[int]]]:
    """Which items go to which shard, at most so many at once, in order."""
    numbers: dict[Shard, list[int]] = {}
    for number, shard in enumerate(shards):
        numbers.setdefault(shard, []).append(number)
    return [(shard, mine[start : start + at_once]) for shard, mine in numbers.items() for start in range(0, len(mine), at_once)]


def _page_args(wanted: LetterFilter, after: LetterPlace | None, *, newest_first: bool) -> tuple[Argument, ...]:
    since: Argument = "-inf" if wanted.since_ms is None else wanted.since_ms
    until: Argument = "+inf" if wanted.until_ms is None else f"({wanted.until_ms}"
    if after is not None and newest_first:
        until = after.died_at_ms
    elif after is not None:
        since = after.died_at_ms
    behind = ("", "") if after is None else after
    return (wanted.tenant_id, wanted.webhook_id or "", wanted.reason or "", since, until, int(newest_first), *behind)


def _seen_to(answer: list[Any]) -> LetterPlace | None:
    _, is_ended, died_at_ms, name, *_ = answer
    return None if is_ended else LetterPlace(int(died_at_ms), DeliveryId(name.decode()))


def _letter(shard: Shard, row: list[Any]) -> Letter:
    delivery_id, event_key, webhook_id, tenant_id, position, reason, attempts, error, died_at_ms = row
    return Letter(
        shard=shard,
        delivery_id=DeliveryId(delivery_id.decode()),
        event_key=EventKey(event_key.decode()),
        webhook_id=WebhookId(webhook_id.decode()),
        tenant_id=TenantId(tenant_id.decode()),
        position=Position(position),
        reason=DeadReason(reason.decode()),
        attempts=attempts,
        error=error.decode() or None,
        died_at_ms=died_at_ms,
    )


def _state(row: list[Any]) -> DeliveryState:
    stage, attempts, next_in_ms, error, reason = row
    return DeliveryState(
        stage=Stage(stage.decode()),
        attempts=attempts,
        next_in_s=next_in_ms / 1000,
        error=error.decode() or None,
        reason=DeadReason(reason.decode()) if reason else None,
    )


def _entry_of(segments: Sequence[Any], position: Position | None) -> tuple[bytes | None, bytes | None]:
    """Tenant and record out of the segment that holds the position; none where it has been trimmed."""
    if position is None or not segments:
        return None, None
    entry_id, fields = segments[0]
    first, count = map(int, entry_id.split(b"-"))
    at = 2 * (position - first)
    return (fields[at], fields[at + 1]) if position < first + count and at < len(fields) else (None, None)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
