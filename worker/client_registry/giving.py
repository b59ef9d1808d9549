"""The giver's side of a handover: what we have on the table, to whom, and who is prepared to take it.

```
giver   offer ──wake──▶                       hand over, release ──wake──▶
taker                    prepare … prepared ──wake──▶                       acquire
```

Nothing here moves a shard: `rebalancing` does while the worker lives, `shutdown` when it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import anyio

from worker.client_registry.port import Handovers, Membership, Offer
from worker.domain.ids import OwnerId, Shard

OFFER_TTL_S = 10.0
"""A giver that dies takes its offers with it; one that lives renews them."""
ANNOUNCED_WITHIN_S = 3.0
"""A new owner's next heartbeat says that it holds one more."""
NOBODY = OwnerId("")


class Offered(NamedTuple):
    """`since_s`: when it was first offered to this taker."""

    taker: OwnerId
    since_s: float
    is_prepared: bool


class Giving:
    """What this worker offers. All methods but `note` and `wait_news` reach the store, and raise `StoreUnavailable`."""

    def __init__(self, handovers: Handovers, membership: Membership, me: OwnerId, clock: Callable[[], float]) -> None:
        self._handovers = handovers
        self._membership = membership
        self._me = me
        self._clock = clock
        self._news = anyio.Event()
        self._kept_at_s = clock()
        self._others: list[Offer] = []
        self._given: dict[Shard, Offered] = {}
        self.offered: dict[Shard, Offered] = {}

    def on_the_table(self) -> list[Offer]:
        """Everybody's offers: others' as last read, our own as they are; and what we gave a moment ago."""
        ours = [Offer(shard, self._me, taker, is_prepared) for shard, (taker, _, is_prepared) in self.offered.items()]
        now_s = self._clock()
        self._given = {shard: gift for shard, gift in self._given.items() if now_s - gift.since_s < ANNOUNCED_WITHIN_S}
        return self._others + ours + [Offer(shard, NOBODY, taker, is_prepared=True) for shard, (taker, _, _) in self._given.items()]

    def prepared(self) -> dict[Shard, OwnerId]:
        return {shard: offered.taker for shard, offered in self.offered.items() if offered.is_prepared}

    async def offer(self, plan: Mapping[Shard, OwnerId]) -> None:
        """Puts these on the table and wakes who should take them. One that stood there for the same taker goes on as it was."""
        now_s = self._clock()
        for shard, taker in plan.items():
            before = self.offered.get(shard)
            if before is None or before.taker != taker:
                self.offered[shard] = Offered(taker, now_s, is_prepared=False)
        await self._put(plan)
        for taker in set(plan.values()):
            await self._membership.wake(taker)

    async def keep(self) -> None:
        """What is on the table stays there. To be called often; most calls do nothing."""
        if self.offered and self._clock() - self._kept_at_s >= OFFER_TTL_S / 4:
            await self._put({shard: offered.taker for shard, offered in self.offered.items()})

    async def _put(self, plan: Mapping[Shard, OwnerId]) -> None:
        self._kept_at_s = self._clock()
        for taker in sorted(set(plan.values())):
            shards = [shard for shard, to in plan.items() if to == taker]
            await self._handovers.offer(shards, giver=self._me, taker=taker, ttl_s=OFFER_TTL_S)

    async def withdraw(self, shards: Iterable[Shard]) -> None:
        """Given, or thought better of."""
        gone = [shard for shard in shards if self.offered.pop(shard, None) is not None]
        if gone:
            await self._handovers.withdraw_offers(gone, self._me)

    async def gave(self, shard: Shard, taker: OwnerId) -> None:
        """It is the taker's now, or will be in a moment."""
        self._given[shard] = Offered(taker, self._clock(), is_prepared=True)
        await self.withdraw([shard])

    def note(self, offers: Sequence[Offer]) -> None:
        """What the table says: who is prepared, and what others give."""
        self._others = [offer for offer in offers if offer.giver != self._me]
        for shard, _, taker, is_prepared in offers:
            ours = self.offered.get(shard)
            if ours is not None and ours.taker == taker and is_prepared and not ours.is_prepared:
                self.offered[shard] = ours._replace(is_prepared=True)
                self.stir()

    def stir(self) -> None:
        """Somebody who waits for news should look again."""
        self._news.set()
        self._news = anyio.Event()

    async def wait_news(self, within_s: float) -> None:
        """Until somebody is prepared, the company has been looked at, or time is over."""
        with anyio.move_on_after(within_s):
            await self._news.wait()
