"""The taker's side of a handover: the sessions of offered shards read before we own them; then the giver is told that it may let go.

An offer is declined by saying nothing. Whoever cannot be an heir wakes the giver that leaves, so that it asks somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import structlog

from worker.client_registry.port import Handovers, Membership, Offer, ShardSockets
from worker.client_registry.shares import Company, acceptable
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId, Shard

log = structlog.get_logger()

LOOK_EVERY_S = 0.05
IDLE_S = 60.0
KEPT_READY_S = 3.0
"""An offer ends when its shard is released; the sessions stay for so long, until the grant is ours (it is reserved for us for 2 s)."""


class Taking:
    """`run` in a task group; `note` whenever the table of offers was read."""

    def __init__(
        self,
        handovers: Handovers,
        membership: Membership,
        me: OwnerId,
        *,
        clock: Callable[[], float],
        sockets: Callable[[], ShardSockets],
    ) -> None:
        self._handovers = handovers
        self._membership = membership
        self._me = me
        self._clock = clock
        self._sockets = sockets
        self._accepted: dict[Shard, Offer] = {}
        self._ended_at_s: dict[Shard, float] = {}
        """Accepted offers that are off the table: released by now, or thought better of."""
        self._news = anyio.Event()

    @property
    def expected(self) -> frozenset[Shard]:
        """Ours as soon as their owner lets go."""
        return frozenset(self._accepted) | frozenset(self._ended_at_s)

    @property
    def released(self) -> frozenset[Shard]:
        """Off the table, and perhaps not granted yet."""
        return frozenset(self._ended_at_s)

    async def note(self, offers: Sequence[Offer], company: Company) -> None:
        """What the table says. Raises `StoreUnavailable`."""
        mine = {offer.shard: offer for offer in offers if offer.taker == self._me}
        if not mine and not self._accepted and not self._ended_at_s:
            return
        others = [offer for offer in offers if offer.taker != self._me]
        wanted = acceptable(company.once_given(others), list(mine.values()), accepted=frozenset(self._accepted))
        now_s = self._clock()
        self._ended_at_s |= {shard: now_s for shard in self._accepted if shard not in wanted}
        self._ended_at_s = {s: at_s for s, at_s in self._ended_at_s.items() if s not in wanted and now_s - at_s < KEPT_READY_S}
        self._accepted = {shard: mine[shard] for shard in wanted}
        self._sockets().prepare(self.expected)
        self._news.set()
        staying = {member.owner for member in company.members}
        for giver in sorted({offer.giver for shard, offer in mine.items() if shard not in wanted} - staying):
            await self._membership.wake(giver)

    async def run(self) -> None:
        """Tells the givers what is prepared, as soon as it is."""
        while True:
            waiting = [shard for shard, offer in self._accepted.items() if not offer.is_prepared]
            with anyio.move_on_after(LOOK_EVERY_S if waiting else IDLE_S):
                await self._news.wait()
            self._news = anyio.Event()
            try:
                await self._tell()
            except (StoreUnavailable, StoreFull) as exc:
                log.warning(
                    "preparation_not_told", cause=str(exc), next_step="told again in a moment; the giver waits, or hands over anyway"
                )
                self._news.set()
                with anyio.move_on_after(LOOK_EVERY_S):
                    await anyio.sleep_forever()

    async def _tell(self) -> None:
        sockets = self._sockets()
        ready = [shard for shard, offer in self._accepted.items() if not offer.is_prepared and sockets.is_prepared(shard)]
        if not ready:
            return
        await self._handovers.prepared(ready, self._me)
        givers = set()
        for shard in ready:
            offer = self._accepted.get(shard)
            if offer is not None:
                self._accepted[shard] = offer._replace(is_prepared=True)
                givers.add(offer.giver)
        for giver in sorted(givers):
            await self._membership.wake(giver)
