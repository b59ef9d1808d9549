"""Leases and membership on Redis. Every call answers within its client's timeout and is never retried here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

import orjson

from worker.adapters import redis_keys
from worker.adapters.redis_client import Command, RedisClient, Script
from worker.adapters.redis_keys import ShardKeys
from worker.client_registry.port import Busy, Granted, Member, Quarantined
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import OwnerId, Shard, Token

ACQUIRE = Script("acquire", "clock")
RENEW = Script("renew")
RELEASE = Script("release")
ANNOUNCE = Script("announce", "clock")
SCRIPTS = (ACQUIRE, RENEW, RELEASE, ANNOUNCE)

RESERVED_FOR_MS = 2_000
WAKE_KEPT_MS = 2_000
WAKES_AT_MOST = 16
BLOCK_AT_MOST_S = 4.0
MEMBERS_AT_MOST = 1_000
REPLICA_WITHIN_MS = 500
MEMBER_FIELDS = tuple(field.name for field in fields(Member))


class RedisLeases:
    """`Leases` over one hash with a TTL per shard, and a fence without."""

    def __init__(self, lease: RedisClient) -> None:
        self._lease = lease
        self._has_replica = False

    async def acquire(self, shard: Shard, owner: OwnerId, *, ttl_s: float, sole: bool) -> Granted | Busy | Quarantined:
        """With replicas a grant waits for one of them; none confirms: `StoreUnavailable`, and a repeat answers the same token."""
        k = ShardKeys(shard)
        commands: list[Command] = [ACQUIRE.call((k.lease, k.fence, k.epoch), (owner, _ms(ttl_s), int(sole)))]
        if self._has_replica:
            commands.append(("WAIT", 1, REPLICA_WITHIN_MS))
        (verdict, *told), *confirmed = await self._lease.exchange(commands)
        if verdict == b"BUSY":
            return Busy(told[0] / 1000, OwnerId(told[1].decode()) if told[1] else None)
        if verdict == b"QUARANTINED":
            return Quarantined(told[0] / 1000)
        token, previous, replicas = told
        had_replica, self._has_replica = self._has_replica, replicas > 0
        if replicas and not had_replica:
            # The first grant that shows a replica was not waited for: the holder asks again, which extends nothing.
            return await self.acquire(shard, owner, ttl_s=ttl_s, sole=sole)
        if replicas and confirmed == [0]:
            raise StoreUnavailable(f"lease of shard {shard}: no replica confirmed the grant within {REPLICA_WITHIN_MS} ms; ask again")
        return Granted(Token(token), Token(previous))

    async def renew(self, leases: Mapping[Shard, Token], owner: OwnerId, *, ttl_s: float) -> frozenset[Shard]:
        if not leases:
            return frozenset()
        renewals = [RENEW.call((ShardKeys(shard).lease,), (owner, token, _ms(ttl_s))) for shard, token in leases.items()]
        held = await self._lease.exchange(renewals)
        return frozenset(shard for shard, is_held in zip(leases, held, strict=True) if is_held)

    async def release(self, shard: Shard, owner: OwnerId, token: Token, *, to: OwnerId | None) -> bool:
        release = RELEASE.call((ShardKeys(shard).lease,), (owner, token, to or "", RESERVED_FOR_MS))
        wake = _wake(to) if to else ()
        # At maxmemory a wake-up is refused and a release is not: the taker looks by itself, a little later.
        released, *_ = await self._lease.exchange([release, *wake], may_fail=len(wake))
        return bool(released)

    async def holders(self, shards: Sequence[Shard]) -> dict[Shard, OwnerId]:
        if not shards:
            return {}
        owners = await self._lease.exchange([("HGET", ShardKeys(shard).lease, "owner") for shard in shards])
        return {shard: OwnerId(owner.decode()) for shard, owner in zip(shards, owners, strict=True) if owner}


class RedisMembership:
    """`Membership` over a sorted set of heartbeats; wake-ups are short lists."""

    def __init__(self, lease: RedisClient, blocking: RedisClient) -> None:
        self._lease = lease
        self._blocking = blocking

    async def announce(self, member: Member, *, ttl_s: float) -> None:
        keys = (redis_keys.MEMBERS, redis_keys.member(member.owner))
        await self._lease.call(*ANNOUNCE.call(keys, (member.owner, orjson.dumps(asdict(member)), _ms(ttl_s))))

    async def withdraw(self, owner: OwnerId) -> None:
        await self._lease.exchange([("DEL", redis_keys.member(owner)), ("ZREM", redis_keys.MEMBERS, owner)])

    async def live(self) -> list[Member]:
        """At most 1 000, those that announced last; one whose announcement has ended is not among them."""
        owners = await self._lease.call("ZREVRANGE", redis_keys.MEMBERS, 0, MEMBERS_AT_MOST - 1)
        if not owners:
            return []
        told = await self._lease.call("MGET", *(redis_keys.member(OwnerId(owner.decode())) for owner in owners))
        return [member for announced in told if announced and (member := member_of(announced)) is not None]

    async def wake(self, owner: OwnerId) -> None:
        await self._lease.exchange(_wake(owner))

    async def wait_wake(self, owner: OwnerId, *, block_s: float) -> bool:
        block_s = min(block_s, BLOCK_AT_MOST_S)
        if block_s <= 0:
            return await self._blocking.call("LPOP", redis_keys.wake(owner)) is not None
        # BLPOP reads seconds; 0 would be for ever.
        return await self._blocking.call("BLPOP", redis_keys.wake(owner), max(0.001, block_s), block_s=block_s) is not None


def member_of(announced: bytes) -> Member | None:
    """What a worker of any release announced: fields that we do not know are left out, an announcement without ours is nobody's."""
    try:
        told = orjson.loads(announced)
        return Member(**{field: told[field] for field in MEMBER_FIELDS if field in told})
    except (orjson.JSONDecodeError, TypeError):
        return None


def _wake(owner: OwnerId) -> list[Command]:
    key = redis_keys.wake(owner)
    return [("LPUSH", key, 1), ("LTRIM", key, 0, WAKES_AT_MOST - 1), ("PEXPIRE", key, WAKE_KEPT_MS)]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
