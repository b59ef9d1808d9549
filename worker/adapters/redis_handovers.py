"""Offers of shards on Redis: one small hash for all of them, each offer with an end of its own by the server's clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from worker.adapters import redis_keys
from worker.adapters.redis_client import Command, RedisClient, Script
from worker.adapters.redis_strays import Strays, anew
from worker.client_registry.port import Offer
from worker.domain.ids import OwnerId, Shard

OFFER = Script("offer", "clock")
PREPARED = Script("prepared", "clock")
WITHDRAW_OFFERS = Script("withdraw_offers")
SCRIPTS = (OFFER, PREPARED, WITHDRAW_OFFERS)


PLAIN = "/:@+=,"
"""Stands in an offer as it is, beside letters, digits and `_.-~`; the rest of an owner's name as `%XX`."""
_SHARD = re.compile(rb"0|[1-9]\d{0,8}")
_OFFER = re.compile(rb"(\d{1,16}) ([01]) (\S+) (\S+)(?: .*)?", re.DOTALL)


class RedisHandovers:
    """`Handovers` over `{wa}:offers`, shard → `<ends ms> <prepared 0|1> <giver> <taker>`, and what newer releases say behind it."""

    def __init__(self, lease: RedisClient) -> None:
        self._lease = lease
        self._strays = Strays()

    async def offer(self, shards: Sequence[Shard], *, giver: OwnerId, taker: OwnerId, ttl_s: float) -> None:
        if shards:
            await self._run(OFFER.call((redis_keys.OFFERS,), (_word(giver), _word(taker), round(ttl_s * 1000), *shards)))

    async def prepared(self, shards: Sequence[Shard], taker: OwnerId) -> None:
        if shards:
            await self._run(PREPARED.call((redis_keys.OFFERS,), (_word(taker), *shards)))

    async def offers(self) -> list[Offer]:
        """Those that have ended are left out, and go with the next offer or with the hash; so is what is no offer, whatever it is."""
        (seconds, micros), told = await self._run(("TIME",), ("HGETALL", redis_keys.OFFERS))
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        found = []
        for shard, packed in zip(told[::2], told[1::2], strict=True):
            read = _OFFER.fullmatch(packed)
            if read is None or not _SHARD.fullmatch(shard):
                self._strays.leave_aside(redis_keys.OFFERS, shard)
            elif int(read[1]) > now_ms:
                found.append(Offer(Shard(int(shard)), _owner(read[3]), _owner(read[4]), read[2] == b"1"))
        return sorted(found)

    async def withdraw_offers(self, shards: Sequence[Shard], giver: OwnerId) -> None:
        if shards:
            await self._run(WITHDRAW_OFFERS.call((redis_keys.OFFERS,), (_word(giver), *shards)))

    async def _run(self, *commands: Command) -> list[Any]:
        return await anew(self._lease, redis_keys.OFFERS, lambda: self._lease.exchange(commands))


def _word(owner: OwnerId) -> str:
    return quote(owner, safe=PLAIN)


def _owner(word: bytes) -> OwnerId:
    return OwnerId(unquote(word.decode(errors="replace")))
