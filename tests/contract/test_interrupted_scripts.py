"""A script that errors midway keeps its writes, so the order of its writes is a promise: an error may duplicate, never lose.

Only a real Redis can be broken like this: a key of the wrong type, or a position that was used up, stops a script where we want it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ResponseError

from tests.contract.samples import HOOK, SHARD, Store, append, claim, empty, event, grant, parking, positions
from tests.real_redis import RealRedis
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_store import open_redis_store
from worker.domain.ids import Position

pytestmark = pytest.mark.anyio

KEYS = ShardKeys(SHARD)


@pytest.fixture
async def store(redis_server: RealRedis) -> AsyncIterator[Store]:
    empty(redis_server)
    async with open_redis_store(redis_server.url, shards=1) as opened:
        yield opened


@pytest.fixture
async def hand(redis_server: RealRedis) -> AsyncIterator[RedisClient]:
    """Reaches into the server, past every script."""
    client = RedisClient(redis_server.url, name="hand", timeout_s=2, max_connections=1)
    yield client
    await client.close()


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
