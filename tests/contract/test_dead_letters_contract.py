"""Beside the queue: dead letters, payloads kept once for all webhooks, and the count of what waits (design 3 "Payloads", "Room")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.samples import (
    HOOK,
    KNOWN_DONE,
    OTHER_HOOK,
    SHARD,
    SHORT_S,
    TENANT,
    Store,
    append,
    claim,
    delivered,
    due,
    eventually,
    grant,
    park,
    parking,
    retry,
    settle,
)
from worker.domain.ids import Position, TenantId
from worker.event_integration.retry_queue import Claimed, DeadReason, Settlement, Waiting
from worker.journal.port import Done

pytestmark = pytest.mark.anyio


async def waiting(store: Store) -> Waiting:
    return (await store.room.waiting([SHARD]))[SHARD].get(TENANT, Waiting(0, 0))


def dead(of: Claimed, reason: DeadReason = DeadReason.EXHAUSTED) -> Settlement:
    return replace(delivered(of), delivered=False, dead=reason, error="500")


# --- dead letters -------------------------------------------------------------------------------------------------------------


async def test_a_dead_letter_says_what_died_of_what_after_how_many_attempts(store: Store) -> None:
    token = await grant(store)
    await park(store, token, parking(Position(1), attempts=8))
    [claimed] = await claim(store, token)
    assert await settle(store, dead(claimed))
    [letter] = await store.room.dead_letters(SHARD, limit=10)
    assert (letter.delivery_id, letter.event_key, letter.webhook_id, letter.tenant_id) == (
        claimed.delivery_id,
        claimed.event_key,
        HOOK,
        TENANT,
    )
    assert (letter.reason, letter.attempts, letter.error) == (DeadReason.EXHAUSTED, 9, "500")
    assert 0 <= letter.dead_for_s < 5
    assert await claim(store, token) == []


async def test_a_delivery_may_be_parked_straight_among_the_dead(store: Store) -> None:
    token = await grant(store)
    await append(store, "event 1")
    await park(store, token, replace(parking(Position(1)), dead=DeadReason.INTERNAL_ERROR, error="cannot route"))
    [letter] = await store.room.dead_letters(SHARD, limit=10)
    assert (letter.reason, letter.attempts, letter.error) == (DeadReason.INTERNAL_ERROR, 0, "cannot route")
    assert await due(store) == []
    assert Done(Position(1), HOOK) in (await store.checkpoints.load(SHARD, token)).done


async def test_what_has_died_is_not_parked_again(store: Store) -> None:
    token = await grant(store)
    await park(store, token, replace(parking(Position(1)), dead=DeadReason.POISON))
    assert await park(store, token, parking(Position(1))) == [KNOWN_DONE]
    assert len(await store.room.dead_letters(SHARD, limit=10)) == 1


async def test_dead_letters_are_listed_oldest_first_and_leave_by_age(store: Store) -> None:
    token = await grant(store)
    await park(store, token, replace(parking(Position(1)), dead=DeadReason.POISON))

    async def first_has_aged() -> bool:
        return (await store.room.dead_letters(SHARD, limit=1))[0].dead_for_s > SHORT_S

    await eventually(first_has_aged)
    await park(store, token, replace(parking(Position(2)), dead=DeadReason.POISON))
    first, second = await store.room.dead_letters(SHARD, limit=10)
    assert first.dead_for_s > second.dead_for_s
    assert await store.room.expire_dead_letters(SHARD, older_than_s=SHORT_S, limit=10) == 1
    assert [one.delivery_id for one in await store.room.dead_letters(SHARD, limit=10)] == [second.delivery_id]


async def test_dead_letters_expire_at_most_as_many_as_asked(store: Store) -> None:
    token = await grant(store)
    await park(store, token, *[replace(parking(Position(n)), dead=DeadReason.POISON) for n in range(1, 6)])
    assert await store.room.expire_dead_letters(SHARD, older_than_s=0, limit=3) == 3
    assert len(await store.room.dead_letters(SHARD, limit=10)) == 2


# --- payloads are kept once, and everything that waits is counted -------------------------------------------------------------


async def test_a_payload_is_kept_once_for_all_webhooks_and_leaves_with_the_last(store: Store) -> None:
    token = await grant(store)
    item = parking(Position(1))
    await park(store, token, item, parking(Position(1), hook=OTHER_HOOK))
    assert await waiting(store) == Waiting(1, len(item.record))
    [first] = await claim(store, token)
    await settle(store, delivered(first))
    assert await waiting(store) == Waiting(1, len(item.record))
    [second] = await claim(store, token, hook=OTHER_HOOK)
    assert second.record == item.record
    await settle(store, delivered(second))
    assert await waiting(store) == Waiting(0, 0)


async def test_a_repeated_park_counts_nothing_twice(store: Store) -> None:
    token = await grant(store)
    item = parking(Position(1))
    for _ in range(3):
        await park(store, token, item)
    assert await waiting(store) == Waiting(1, len(item.record))
    [claimed] = await claim(store, token)
    await settle(store, delivered(claimed))
    assert await waiting(store) == Waiting(0, 0)


async def test_a_retry_keeps_its_payload(store: Store) -> None:
    token = await grant(store)
    item = parking(Position(1))
    await park(store, token, item)
    [claimed] = await claim(store, token)
    await settle(store, retry(claimed, 0))
    assert await waiting(store) == Waiting(1, len(item.record))


async def test_a_dead_letter_keeps_its_payload_and_waits_until_it_expires(store: Store) -> None:
    token = await grant(store)
    item = parking(Position(1))
    await park(store, token, item)
    [claimed] = await claim(store, token)
    await settle(store, dead(claimed))
    assert await waiting(store) == Waiting(1, len(item.record))
    assert await store.room.expire_dead_letters(SHARD, older_than_s=0, limit=10) == 1
    assert await waiting(store) == Waiting(0, 0)


async def test_what_waits_is_told_per_tenant(store: Store) -> None:
    token = await grant(store)
    mine, other = parking(Position(1)), replace(parking(Position(2)), tenant_id=TenantId("other"))
    await park(store, token, mine, other)
    assert (await store.room.waiting([SHARD]))[SHARD] == {
        TENANT: Waiting(1, len(mine.record)),
        TenantId("other"): Waiting(1, len(other.record)),
    }


async def test_the_store_says_how_full_it_is(store: Store) -> None:
    assert 0 <= await store.room.memory_fill() <= 1
