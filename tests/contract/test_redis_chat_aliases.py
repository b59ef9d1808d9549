"""What is only true of aliases on Redis: a table too long shrinks, a full server takes them (docs/architecture.md)."""

from __future__ import annotations

import anyio
import pytest

from tests.contract.samples import SHARD
from worker.adapters.redis_chat_aliases import BATCH
from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_store import RedisStore
from worker.domain.ids import InstanceId
from worker.event_integration.chat_aliases import KEPT_AT_MOST

pytestmark = pytest.mark.anyio

ALIASES = ShardKeys(SHARD).aliases
SALES, LID, ANA = InstanceId("acme-sales"), "100000000000001@lid", "5511900000001@s.whatsapp.net"


async def test_an_operator_can_read_an_alias(redis: RedisStore, hand: RedisClient) -> None:
    await redis.chat_aliases.learn(SHARD, {(SALES, LID): ANA})
    assert await hand.call("HGETALL", ALIASES) == [b"acme-sales\0" + LID.encode(), ANA.encode()]


async def test_a_table_that_another_bound_let_grow_shrinks_a_stretch_per_call(redis: RedisStore, hand: RedisClient) -> None:
    for start in range(0, KEPT_AT_MOST + 3 * BATCH, BATCH):
        await hand.call("HSET", ALIASES, *(text for number in range(start, start + BATCH) for text in (f"acme-sales\0{number}@lid", ANA)))
    lengths = []
    for _ in range(3):
        await redis.chat_aliases.learn(SHARD, {(SALES, LID): ANA})
        lengths.append(await hand.call("HLEN", ALIASES))
    assert lengths == [KEPT_AT_MOST + BATCH + 1, KEPT_AT_MOST, KEPT_AT_MOST]


async def test_a_full_server_learns_for_the_checkpoint_that_frees_memory_waits_for_it(redis: RedisStore, hand: RedisClient) -> None:
    await hand.call("CONFIG", "SET", "maxmemory", "1")
    try:
        await redis.chat_aliases.learn(SHARD, {(SALES, LID): ANA})
        assert await redis.chat_aliases.load(SHARD) == {(SALES, LID): ANA}
    finally:
        with anyio.move_on_after(2, shield=True):
            await hand.call("CONFIG", "SET", "maxmemory", "0")
