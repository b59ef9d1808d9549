"""Leases and membership on Redis. Every call answers within its client's timeout and is never retried here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import get_type_hints

import orjson
from redis.exceptions import ResponseError

from worker.adapters import redis_keys
from worker.adapters.redis_client import Command, RedisClient, Script
from worker.adapters.redis_keys import ShardKeys
from worker.adapters.redis_strays import Strays, anew, exchange_around_strays, is_of_another_type
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
UNREADABLE_S = 5.0
"""When to ask again for a lease of another type of key."""
MEMBER_FIELDS = {name: getattr(kind, "__supertype__", kind) for name, kind in get_type_hints(Member).items()}
"""Each with the type that it has in JSON, too."""


class RedisLeases:
    """`Leases` over one hash with a TTL per shard, and a fence without.

    A lease of another type of key is somebody's until people remove it: it is permission, and no guess of ours.
    """

    def __init__(self, lease: RedisClient) -> None:
        self._lease = lease
        self._has_replica = False
        self._strays = Strays()

    async def acquire(self, shard: Shard, owner: OwnerId, *, ttl_s: float, sole: bool) -> Granted | Busy | Quarantined:
        """With replicas a grant waits for one of them; none confirms: `StoreUnavailable`, and a repeat answers the same token."""
        try:
            return await self._acquire(shard, owner, ttl_s=ttl_s, sole=sole)
        except ResponseError as exc:
            if not is_of_another_type(exc):
                raise
        self._strays.leave_aside(ShardKeys(shard).lease)
        return Busy(UNREADABLE_S, None)

    async def _acquire(self, shard: Shard, owner: OwnerId, *, ttl_s: float, sole: bool) -> Granted | Busy | Quarantined:
        k = ShardKeys(shard)
        commands: list[Command] = [ACQUIRE.call((k.lease, k.fence, k.epoch), (owner, _ms(ttl_s), int(sole)))]
        if self._has_replica:
            commands.append(("WAIT", 1, REPLICA_WITHIN_MS))
        (verdict, *told), *confirmed = await self._lease.exchange(commands)
        if verdict == b"BUSY":
            return Busy(told[0] / 1000, owner_of(told[1]) if told[1] else None)
        if verdict == b"QUARANTINED":
            return Quarantined(told[0] / 1000)
        token, previous, replicas = told
        had_replica, self._has_replica = self._has_replica, replicas > 0
        if replicas and not had_replica:
            # The first grant that shows a replica was not waited for: the holder asks again, which extends nothing.
            return await self._acquire(shard, owner, ttl_s=ttl_s, sole=sole)
        if replicas and confirmed == [0]:
            raise StoreUnavailable(f"lease of shard {shard}: no replica confirmed the grant within {REPLICA_WITHIN_MS} ms; ask again")
        return Granted(Token(token), Token(previous))

    async def renew(self, leases: Mapping[Shard, Token], owner: OwnerId, *, ttl_s: float) -> frozenset[Shard]:
        if not leases:
            return frozenset()
        renewals = [RENEW.call((ShardKeys(shard).lease,), (owner, token, _ms(ttl_s))) for shard, token in leases.items()]
        held = await exchange_around_strays(self._lease, renewals)
        self._leave_aside(shard for shard, is_held in zip(leases, held, strict=True) if is_held is None)
        return frozenset(shard for shard, is_held in zip(leases, held, strict=True) if is_held)

    async def release(self, shard: Shard, owner: OwnerId, token: Token, *, to: OwnerId | None) -> bool:
        release = RELEASE.call((ShardKeys(shard).lease,), (owner, token, to or "", RESERVED_FOR_MS))
        wake = _wake(to) if to else ()
        # At maxmemory a wake-up is refused and a release is not: the taker looks by itself, a little later.
        try:
            released, *_ = await self._lease.exchange([release, *wake], may_fail=len(wake))
        except ResponseError as exc:
            if not is_of_another_type(exc):
                raise
            self._strays.leave_aside(ShardKeys(shard).lease)
            return False
        return bool(released)

    async def holders(self, shards: Sequence[Shard]) -> dict[Shard, OwnerId]:
        if not shards:
            return {}
        owners = await exchange_around_strays(self._lease, [("HGET", ShardKeys(shard).lease, "owner") for shard in shards])
        return {shard: owner_of(owner) for shard, owner in zip(shards, owners, strict=True) if owner}

    def _leave_aside(self, shards: Iterable[Shard]) -> None:
        for shard in shards:
            self._strays.leave_aside(ShardKeys(shard).lease)


class RedisMembership:
    """`Membership` over a sorted set of heartbeats; wake-ups are short lists."""

    def __init__(self, lease: RedisClient, blocking: RedisClient) -> None:
        self._lease = lease
        self._blocking = blocking
        self._strays = Strays()

    async def announce(self, member: Member, *, ttl_s: float) -> None:
        keys = (redis_keys.MEMBERS, redis_keys.member(member.owner))
        command = ANNOUNCE.call(keys, (member.owner, orjson.dumps(asdict(member)), _ms(ttl_s)))
        await anew(self._lease, redis_keys.MEMBERS, lambda: self._lease.call(*command))

    async def withdraw(self, owner: OwnerId) -> None:
        commands: list[Command] = [("DEL", redis_keys.member(owner)), ("ZREM", redis_keys.MEMBERS, owner)]
        await anew(self._lease, redis_keys.MEMBERS, lambda: self._lease.exchange(commands))

    async def live(self) -> list[Member]:
        """At most 1 000, those that announced last; one whose announcement has ended, or cannot be read, is not among them."""
        latest: Command = ("ZREVRANGE", redis_keys.MEMBERS, 0, MEMBERS_AT_MOST - 1)
        owners = await anew(self._lease, redis_keys.MEMBERS, lambda: self._lease.call(*latest))
        if not owners:
            return []
        told = await self._lease.call("MGET", *(redis_keys.member(OwnerId("")).encode() + owner for owner in owners))
        members = []
        for owner, announced in zip(owners, told, strict=True):
            member = member_of(announced) if announced is not None else None
            if member is not None and member.owner.encode() == owner:
                members.append(member)
            elif announced is not None:
                self._strays.leave_aside(redis_keys.MEMBERS, owner)
        return members

    async def wake(self, owner: OwnerId) -> None:
        await anew(self._lease, redis_keys.wake(owner), lambda: self._lease.exchange(_wake(owner)))

    async def wait_wake(self, owner: OwnerId, *, block_s: float) -> bool:
        key, block_s = redis_keys.wake(owner), min(block_s, BLOCK_AT_MOST_S)
        if block_s <= 0:
            return await anew(self._lease, key, lambda: self._blocking.call("LPOP", key)) is not None
        # BLPOP reads seconds; 0 would be for ever.
        popped = await anew(self._lease, key, lambda: self._blocking.call("BLPOP", key, max(0.001, block_s), block_s=block_s))
        return popped is not None


def member_of(announced: bytes) -> Member | None:
    """What a worker of any release announced: fields that we do not know are left out.

    An announcement without ours, or with one of another type, is nobody's.
    """
    try:
        told = orjson.loads(announced)
        known = {field: told[field] for field in MEMBER_FIELDS if field in told}
        member = Member(**known)
    except (orjson.JSONDecodeError, TypeError):
        return None
    is_sound = all(type(value) is MEMBER_FIELDS[field] for field, value in known.items()) and member.owner and member.shards >= 0
    return member if is_sound else None


def owner_of(raw: bytes) -> OwnerId:
    """Whoever stands there, also by a name that is no text: somebody it is."""
    return OwnerId(raw.decode(errors="backslashreplace"))


def _wake(owner: OwnerId) -> list[Command]:
    key = redis_keys.wake(owner)
    return [("LPUSH", key, 1), ("LTRIM", key, 0, WAKES_AT_MOST - 1), ("PEXPIRE", key, WAKE_KEPT_MS)]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
