"""The twin of the table of offers: same contract suite as `redis_handovers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker.adapters.memory_faults import StoreFaults
from worker.client_registry.port import Offer
from worker.domain.ids import OwnerId, Shard


class MemoryHandovers:
    """`Handovers` of one `MemoryStore`."""

    def __init__(self, faults: StoreFaults, clock: Callable[[], float]) -> None:
        self._faults = faults
        self._clock = clock
        self._offers: dict[Shard, tuple[Offer, float]] = {}

    async def offer(self, shards: Sequence[Shard], *, giver: OwnerId, taker: OwnerId, ttl_s: float) -> None:
        await self._faults.reach("offer")
        ends_at_s, standing = self._clock() + ttl_s, self._standing()
        for shard in shards:
            before = standing.get(shard)
            is_same = before is not None and (before.giver, before.taker) == (giver, taker)
            self._offers[shard] = Offer(shard, giver, taker, before is not None and is_same and before.is_prepared), ends_at_s
        await self._faults.answered("offer")

    async def prepared(self, shards: Sequence[Shard], taker: OwnerId) -> None:
        await self._faults.reach("prepared")
        standing = self._standing()
        for shard in shards:
            offer = standing.get(shard)
            if offer is not None and offer.taker == taker:
                self._offers[shard] = offer._replace(is_prepared=True), self._offers[shard][1]
        await self._faults.answered("prepared")

    async def offers(self) -> list[Offer]:
        await self._faults.reach("offers")
        return sorted(self._standing().values())

    async def withdraw_offers(self, shards: Sequence[Shard], giver: OwnerId) -> None:
        await self._faults.reach("withdraw_offers")
        for shard in shards:
            if shard in self._offers and self._offers[shard][0].giver == giver:
                del self._offers[shard]
        await self._faults.answered("withdraw_offers")

    def _standing(self) -> dict[Shard, Offer]:
        now_s = self._clock()
        return {shard: offer for shard, (offer, ends_at_s) in self._offers.items() if ends_at_s > now_s}
