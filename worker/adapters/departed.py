"""Gives back what workers left behind that are provably gone: leases, announcements. Only whoever has seen their end may say so.

A reaped child is gone, and so is everybody who worked on an embedded server before the lock of its directory was ours. What such a
worker had sent but Redis has not read yet comes with its old token, and is refused once somebody owns the shard.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.adapters.redis_client import RedisClient
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_leases import RELEASE, RedisMembership, owner_of
from worker.domain.ids import OwnerId, Shard

TIMEOUT_S = 2.0


async def forget_departed(url: str, shards: int, is_gone: Callable[[OwnerId], bool]) -> int:
    """Releases their leases and wakes the others; answers how many shards that frees. May run twice. Raises `StoreUnavailable`.

    A lease that somebody took meanwhile is left alone.
    """
    client = RedisClient(url, name="departed", timeout_s=TIMEOUT_S, max_connections=1, scripts=(RELEASE,))
    try:
        membership = RedisMembership(client, client)
        living = []
        for member in await membership.live():
            if is_gone(member.owner):
                await membership.withdraw(member.owner)
            else:
                living.append(member.owner)
        freed = await _released(client, shards, is_gone)
        if freed:
            for owner in living:
                await membership.wake(owner)
        return freed
    finally:
        await client.close()  # noqa: ASYNC102 - shielded and bounded inside


async def _released(client: RedisClient, shards: int, is_gone: Callable[[OwnerId], bool]) -> int:
    keys = [ShardKeys(Shard(number)).lease for number in range(shards)]
    leases = await client.exchange([("HMGET", key, "owner", "token") for key in keys])
    releases = [
        RELEASE.call((key,), (owner, token, "", 0))
        for key, (owner, token) in zip(keys, leases, strict=True)
        if owner and token and is_gone(owner_of(owner))
    ]
    return sum(await client.exchange(releases)) if releases else 0
