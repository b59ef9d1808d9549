"""What those leave behind who are provably gone: given back at once, and nothing of anybody else's."""

from __future__ import annotations

import pytest

from tests.contract.samples import SHARDS
from tests.real_redis import RealRedis
from worker.adapters.departed import forget_departed
from worker.adapters.redis_store import RedisStore
from worker.client_registry.port import Busy, Granted, Member
from worker.domain.ids import OwnerId, Shard

pytestmark = pytest.mark.anyio

GONE, OTHER = OwnerId("host-1-old-aa"), OwnerId("host-2-new-bb")
TTL_S = 60.0


def member(owner: OwnerId) -> Member:
    return Member(owner=owner, task=owner, family="", revision=0, ready=True, draining=False, shards=1)


async def held_by(redis: RedisStore, owner: OwnerId, shard: int) -> Granted:
    granted = await redis.leases.acquire(Shard(shard), owner, ttl_s=TTL_S, sole=False)
    assert isinstance(granted, Granted)
    return granted


async def test_the_leases_of_the_gone_are_free_at_once_and_the_next_token_is_higher(redis: RedisStore, redis_server: RealRedis) -> None:
    former = await held_by(redis, GONE, 3)
    assert isinstance(await redis.leases.acquire(Shard(3), OTHER, ttl_s=TTL_S, sole=False), Busy)
    assert await forget_departed(redis_server.url, SHARDS, GONE.__eq__) == 1
    now = await held_by(redis, OTHER, 3)
    assert now.token > former.token


async def test_what_others_hold_or_have_announced_stays_theirs(redis: RedisStore, redis_server: RealRedis) -> None:
    for owner, shard in ((GONE, 0), (OTHER, 1)):
        await held_by(redis, owner, shard)
        await redis.membership.announce(member(owner), ttl_s=TTL_S)
    assert await forget_departed(redis_server.url, SHARDS, lambda owner: "-new-" not in owner) == 1
    assert await redis.leases.holders([Shard(0), Shard(1)]) == {Shard(1): OTHER}
    assert [one.owner for one in await redis.membership.live()] == [OTHER]


async def test_those_who_live_are_woken_where_something_became_free_and_only_there(redis: RedisStore, redis_server: RealRedis) -> None:
    await redis.membership.announce(member(OTHER), ttl_s=TTL_S)
    assert await forget_departed(redis_server.url, SHARDS, GONE.__eq__) == 0
    assert not await redis.membership.wait_wake(OTHER, block_s=0)
    await held_by(redis, GONE, 0)
    assert await forget_departed(redis_server.url, SHARDS, GONE.__eq__) == 1
    assert await redis.membership.wait_wake(OTHER, block_s=0)


async def test_forgetting_twice_frees_nothing_more(redis: RedisStore, redis_server: RealRedis) -> None:
    await held_by(redis, GONE, 0)
    assert [await forget_departed(redis_server.url, SHARDS, GONE.__eq__) for _ in range(2)] == [1, 0]
