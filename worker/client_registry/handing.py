"""Shards on their way from worker to worker: the table of offers, seen as giver and as taker, and the wake-ups that make it quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import structlog

from worker.client_registry.giving import Giving
from worker.client_registry.port import Handovers, Membership, ShardSockets
from worker.client_registry.presence import Presence
from worker.client_registry.rebalancing import Rebalancing
from worker.client_registry.shares import Company
from worker.client_registry.taking import Taking
from worker.client_registry.tenure import Tenure
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId

log = structlog.get_logger()

LOOK_AGAIN_S = 2.0
AWAY_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What handing over has to know of this worker, asked anew each time."""

    owner: OwnerId
    company: Callable[[], Company]
    active: Callable[[], list[Tenure]]
    may_give: Callable[[], bool]
    is_leaving: Callable[[], bool]
    sockets: Callable[[], ShardSockets]


class Handing:
    """`run` in a task group."""

    def __init__(self, handovers: Handovers, membership: Membership, presence: Presence, ours: Ours, clock: Callable[[], float]) -> None:
        self._handovers = handovers
        self._membership = membership
        self._presence = presence
        self._ours = ours
        self._woken = anyio.Event()
        self.giving = Giving(handovers, membership, ours.owner, clock)
        self.taking = Taking(handovers, membership, ours.owner, clock=clock, sockets=ours.sockets)
        self.rebalancing = Rebalancing(self.giving, company=ours.company, mine=ours.active, may_give=ours.may_give, clock=clock)
        self.rebalancing.given = presence.hurry
        presence.seen = self.giving.stir

    @property
    def woken(self) -> anyio.Event:
        """The next wake-up. To be asked for before one looks, so that none is missed."""
        return self._woken

    async def run(self) -> None:
        async with anyio.create_task_group() as loops:
            for loop in (self._hear, self._look, self.taking.run, self.rebalancing.run):
                loops.start_soon(loop)

    async def _hear(self) -> None:
        """Somebody has let go of a shard, offers one, or is prepared for one: whoever waits looks at once."""
        while True:
            try:
                if await self._membership.wait_wake(self._ours.owner, block_s=LOOK_AGAIN_S):
                    self._woken.set()
                    self._woken = anyio.Event()
            except (StoreUnavailable, StoreFull):  # told of by those who look
                with anyio.move_on_after(AWAY_PAUSE_S):
                    await anyio.sleep_forever()

    async def _look(self) -> None:
        """Beside the acquiring, which must not wait for it: a shard that was let go is nobody's meanwhile."""
        while True:
            woken, wait_s = self._woken, LOOK_AGAIN_S
            try:
                await self._see_offers()
            except (StoreUnavailable, StoreFull) as exc:
                log.warning("offers_not_seen", cause=str(exc), next_step="looked at again in half a second")
                wait_s = AWAY_PAUSE_S
            with anyio.move_on_after(wait_s):
                await woken.wait()

    async def _see_offers(self) -> None:
        """What is offered to us, and who is prepared for what we offer. Where either turns on who is live, that is looked up again.

        An offer of a shard that does not exist is none, whoever put it there.
        """
        shards = self._ours.company().shards
        offers = [offer for offer in await self._handovers.offers() if 0 <= offer.shard < shards]
        expected = self.taking.expected
        if self._ours.is_leaving() or any(o.taker == self._ours.owner and o.shard not in expected for o in offers):
            await self._presence.look()
        held = {tenure.shard for tenure in self._ours.active()}
        await self.taking.note(offers, self._ours.company().holding(len(held | self.taking.released)))
        self.giving.note(offers)
        await self.giving.keep()
