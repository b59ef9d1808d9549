"""A script that errors midway keeps its writes, so the order of its writes is a promise: an error may duplicate, never lose.

Only a real Redis can be broken like this: a key of the wrong type, or a position that was used up, stops a script where we want it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ResponseError

from tests.contract.past_samples import die, dying, listed, waiting
from tests.contract.samples import (
    HOOK,
    OTHER_HOOK,
    SHARD,
    Store,
    append,
    claim,
    claim_when_due,
    delivered,
    empty,
    event,
    grant,
    parking,
    positions,
    settle,
)
from tests.real_redis import RealRedis
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_store import open_redis_store
from worker.domain.ids import Position
from worker.event_integration.past import Enqueued, Moved, Moving, PastDelivery, Sighting
from worker.event_integration.retry_queue import Waiting

pytestmark = pytest.mark.anyio

KEYS = ShardKeys(SHARD)


@pytest.fixture
async def store(redis_server: RealRedis) -> AsyncIterator[Store]:
    empty(redis_server)
    async with open_redis_store(redis_server.url, shards=1) as opened:
        yield opened


async def test_an_event_is_remembered_only_after_it_was_appended(store: Store, hand: RedisClient) -> None:
    """Remembered first, the gateway's retry would be called a duplicate of an event that stands nowhere."""
    await append(store, "a")
    await hand.call("HSET", KEYS.tail, "next", 1)
    with pytest.raises(ResponseError):
        await append(store, "b")
    [again] = await store.journal.append(SHARD, [event("b", record=b"b")])
    assert not again.duplicate
    [*_, last] = await store.journal.read({SHARD: Position(1)}, max_segments=10, block_s=0)
    assert list(last.records) == [b"b"]


async def test_an_append_that_failed_does_not_stop_the_shard(store: Store, hand: RedisClient) -> None:
    await append(store, "a")
    await hand.call("HSET", KEYS.tail, "next", 1)
    with pytest.raises(ResponseError):
        await append(store, "b")
    assert await append(store, "c") == [2]


async def test_the_journal_is_relieved_of_a_delivery_last(store: Store, hand: RedisClient) -> None:
    """Relieved first, a delivery whose parking failed would be in neither."""
    token = await grant(store)
    await append(store, "event 1")
    item = parking(Position(1), chat="ana")
    order = KEYS.line_of(HOOK)[2]
    await hand.call("SET", order, "not a sorted set")
    with pytest.raises(ResponseError):
        await store.retry_queue.park(SHARD, token, [item])
    assert (await store.checkpoints.load(SHARD, token)).done == frozenset()
    await hand.call("DEL", order)
    await store.retry_queue.park(SHARD, token, [item])
    assert positions(await claim(store, token)) == [1]


# --- replays ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [KEYS.due_of(OTHER_HOOK), KEYS.due, KEYS.held, KEYS.dead_at])
async def test_a_letter_whose_replay_failed_stays_one_until_a_repeat(store: Store, hand: RedisClient, broken: str) -> None:
    """Wherever it stops, the delivery is in the queue before the letter leaves the dead: in both perhaps, in neither never."""
    token = await grant(store)
    [letter] = await die(store, token, dying(1))
    kept = await broken_key(hand, broken)
    with pytest.raises(ResponseError):
        await store.dead_letters.replay([Moving(letter, OTHER_HOOK, 0)])
    await mended(hand, broken, kept)
    assert await listed(store) == [letter]
    assert await store.past.find(letter.event_key) == Sighting(
        shard=SHARD,
        position=None,
        tenant_id=letter.tenant_id,
        record=dying(1).record,
        users=frozenset({OTHER_HOOK} if broken == KEYS.dead_at else {HOOK, OTHER_HOOK}),
    )
    assert await store.dead_letters.replay([Moving(letter, OTHER_HOOK, 0)]) == [Moved.QUEUED]
    assert await listed(store) == []
    claimed = await claim_when_due(store, token, hook=OTHER_HOOK)
    assert claimed.record == dying(1).record
    await settle(store, delivered(claimed))
    assert await waiting(store) == Waiting(0, 0)
    assert await hand.call("KEYS", "*payload*") == []


@pytest.mark.parametrize("broken", [KEYS.due_of(HOOK), KEYS.due, KEYS.held, KEYS.waiting])
async def test_a_past_event_whose_queueing_failed_is_queued_by_the_repeat(store: Store, hand: RedisClient, broken: str) -> None:
    token = await grant(store)
    item = dying(1)
    past = PastDelivery(
        delivery_id=item.delivery_id,
        event_key=item.event_key,
        webhook_id=HOOK,
        tenant_id=item.tenant_id,
        position=item.position,
        record=item.record,
        due_in_s=0,
        is_new_to_it=True,
    )
    kept = await broken_key(hand, broken)
    with pytest.raises(ResponseError):
        await store.past.enqueue(SHARD, [past])
    await mended(hand, broken, kept)
    assert await store.past.enqueue(SHARD, [past]) == [Enqueued.QUEUED]
    assert await store.past.enqueue(SHARD, [past]) == [Enqueued.WAITS]
    claimed = await claim_when_due(store, token)
    await settle(store, delivered(claimed))
    assert await hand.call("KEYS", "*payload*") == []


async def broken_key(hand: RedisClient, key: str) -> bytes | None:
    """Makes it of a type that no script expects; answers what it was."""
    kept: bytes | None = await hand.call("DUMP", key)
    await hand.call("DEL", key)
    await hand.call("SETEX", key, 600, "of another type")
    return kept


async def mended(hand: RedisClient, key: str, kept: bytes | None) -> None:
    await hand.call("DEL", key)
    if kept is not None:
        await hand.call("RESTORE", key, 0, kept)
