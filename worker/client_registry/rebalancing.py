"""Surplus on its way to who has less, while this worker goes on: offered, and handed over once the taker is prepared. A few at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

import anyio
import structlog

from worker.client_registry.giving import Giving
from worker.client_registry.shares import Company, surplus
from worker.client_registry.tenure import Tenure
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId, Shard

log = structlog.get_logger()

AT_ONCE = 4
"""Shards on the table at a time: each costs the taker its sessions' connections."""
PATIENCE_S = 30.0
"""A taker that is not prepared by then is not asked again for `ASK_AGAIN_S`."""
ASK_AGAIN_S = 60.0
REST_S = 30.0
"""What came to us by a handover stays for so long: workers often come and go in pairs, and each move costs a little."""
NEWS_WITHIN_S = 5.0


class Rebalancing:
    """`run` in a task group. `hand_over` moves one shard and never raises for a store that is away; true when the taker may have it."""

    def __init__(
        self,
        giving: Giving,
        *,
        company: Callable[[], Company],
        mine: Callable[[], list[Tenure]],
        may_give: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._giving = giving
        self._company = company
        self._mine = mine
        self._may_give = may_give
        self._clock = clock
        self._shunned_until_s: dict[OwnerId, float] = {}
        self._moving = anyio.Lock()
        self.given: Callable[[], None] = lambda: None
        """Called once some have been handed over: what we announced of ourselves is not true any more."""
        self.hand_over: Callable[[Tenure, OwnerId], Awaitable[bool]] | None = None

    async def run(self) -> None:
        while True:
            await self._giving.wait_news(NEWS_WITHIN_S)
            async with self._moving:
                try:
                    while self._may_give() and await self._turn():
                        pass
                except (StoreUnavailable, StoreFull) as exc:
                    log.warning("surplus_not_given", cause=str(exc), next_step="offered again with the next look at the others")

    async def nothing_under_way(self) -> None:
        """Once draining: until what was being handed over has been."""
        async with self._moving:
            pass

    async def _turn(self) -> bool:
        """Takes back what does not fit any more, hands over what is prepared, offers the next. Whether anything was handed over."""
        company, tenures = self._company(), {t.shard: t for t in self._mine()}
        await self._giving.withdraw(self._misfits(company, tenures.keys()))
        prepared = [(tenures[shard], taker) for shard, taker in self._giving.prepared().items() if shard in tenures]
        if prepared:
            async with anyio.create_task_group() as moving:
                for tenure, taker in prepared:
                    moving.start_soon(self._move, tenure, taker)
            self.given()
            return True
        await self._offer_more(company, tenures)
        return False

    async def _move(self, tenure: Tenure, taker: OwnerId) -> None:
        assert self.hand_over is not None, "wired by the engine"
        began_s = self._clock()
        is_given = await self.hand_over(tenure, taker)
        log.info("shard_handed_over", shard=tenure.shard, to=taker, is_given=is_given, ms=round((self._clock() - began_s) * 1000))
        if is_given:
            await self._giving.gave(tenure.shard, taker)
        else:
            await self._giving.withdraw([tenure.shard])

    def _misfits(self, company: Company, mine: Collection[Shard]) -> list[Shard]:
        """Offers to who has left, or is not prepared for too long, and those of more than we have too many."""
        now_s = self._clock()
        staying = {member.owner for member in company.members}
        excess = company.held_by(company.me) - company.share if company.may_move else 0
        misfits = []
        for shard, offered in self._giving.offered.items():
            is_late = not offered.is_prepared and now_s - offered.since_s >= PATIENCE_S
            if is_late:
                self._shunned_until_s[offered.taker] = now_s + ASK_AGAIN_S
            if is_late or offered.taker not in staying or shard not in mine or excess <= 0:
                misfits.append(shard)
            else:
                excess -= 1
        return misfits

    async def _offer_more(self, company: Company, tenures: Mapping[Shard, Tenure]) -> None:
        now_s, offered = self._clock(), self._giving.offered
        shunned = frozenset(owner for owner, until_s in self._shunned_until_s.items() if now_s < until_s)
        resting = frozenset(t.shard for t in tenures.values() if t.was_given and now_s - t.granted_at_s < REST_S)
        later = company.once_given(self._giving.on_the_table()).with_no_room_at(shunned)
        plan = surplus(later, tenures.keys() - offered.keys(), resting=resting)
        await self._giving.offer(dict(list(plan.items())[: max(0, AT_ONCE - len(offered))]))
