"""Offers of shards on Redis: one small hash for all of them, each offer with an end of its own by the server's clock."""

from __future__ import annotations

from collections.abc import Sequence

from worker.adapters import redis_keys
from worker.adapters.redis_client import RedisClient, Script
from worker.client_registry.port import Offer
from worker.domain.ids import OwnerId, Shard

OFFER = Script("offer", "clock")
PREPARED = Script("prepared", "clock")
WITHDRAW_OFFERS = Script("withdraw_offers")
SCRIPTS = (OFFER, PREPARED, WITHDRAW_OFFERS)


class RedisHandovers:
    """`Handovers` over `{wa}:offers`, shard → `<ends ms> <prepared 0|1> <giver> <taker>`."""

    def __init__(self, lease: RedisClient) -> None:
        self._lease = lease

    async def offer(self, shards: Sequence[Shard], *, giver: OwnerId, taker: OwnerId, ttl_s: float) -> None:
        if shards:
            await self._lease.call(*OFFER.call((redis_keys.OFFERS,), (giver, taker, round(ttl_s * 1000), *shards)))

    async def prepared(self, shards: Sequence[Shard], taker: OwnerId) -> None:
        if shards:
            await self._lease.call(*PREPARED.call((redis_keys.OFFERS,), (taker, *shards)))

    async def offers(self) -> list[Offer]:
        """At most as many as there are shards; those that have ended are left out, and go with the next offer or with the hash."""
        (seconds, micros), told = await self._lease.exchange([("TIME",), ("HGETALL", redis_keys.OFFERS)])
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        found = []
        for shard, packed in zip(told[::2], told[1::2], strict=True):
            ends_ms, is_prepared, giver, taker = packed.decode().split(" ")
            if int(ends_ms) > now_ms:
                found.append(Offer(Shard(int(shard)), OwnerId(giver), OwnerId(taker), is_prepared == "1"))
        return sorted(found)

    async def withdraw_offers(self, shards: Sequence[Shard], giver: OwnerId) -> None:
        if shards:
            await self._lease.call(*WITHDRAW_OFFERS.call((redis_keys.OFFERS,), (giver, *shards)))
