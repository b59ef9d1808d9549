"""Who gets what we hold when we leave: looked for at the signal and told at once, so that they prepare while we drain.

Company *unknown* is not nobody. A store that is away just then is asked again, and so is one that was away a moment ago and finds nobody:
whoever could not announce itself meanwhile is not gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import anyio
import structlog

from worker.client_registry.port import Member
from worker.client_registry.registry import Registry
from worker.domain.errors import StoreFull, StoreUnavailable
from worker.domain.ids import OwnerId, Shard

log = structlog.get_logger()

ASK_AGAIN_S = 0.5


class Heirs:
    """Once the registry is draining. No method raises for a store that is away."""

    def __init__(self, registry: Registry, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._clock = clock
        self._is_told = False
        """Whether a line says already that the company is unknown."""
        self.of: dict[Shard, OwnerId] = {}
        self.members: Sequence[Member] | None = None
        """Who was live when the heirs were found, or found to be nobody; None while that is unknown."""
        self.successor: Member | None = None
        """Whoever gets most of what we held."""

    async def find(self) -> None:
        """Says that we leave; everybody's share of what we hold, offered to them."""
        registry = self._registry
        try:
            await registry.announce()
            self.of = await registry.bequeath([t.shard for t in registry.active()])
            if self.of or not registry.presence.may_miss_some:
                self.members = registry.members
            most = Counter(self.of.values()).most_common(1)
            self.successor = next((m for m in registry.members if most and m.owner == most[0][0]), None)
            await registry.handing.giving.offer(self.of)
        except (StoreUnavailable, StoreFull) as exc:
            if self.members is None:
                self._tell_unknown(str(exc))
            else:
                log.warning("heirs_not_told", cause=str(exc), next_step="told again in a few seconds, or handed over unprepared")

    async def seek(self, *, until_s: float, is_over: Callable[[], bool]) -> None:
        """While the company is unknown: asked for every half second, until `until_s` on our clock or `is_over`. Then it counts as nobody.

        Who holds nothing (any more), or has the store to itself, needs nobody.
        """
        registry = self._registry
        while self._is_wanted() and not is_over() and (left_s := until_s - self._clock()) > 0:
            with anyio.move_on_after(left_s):
                await self.find()
                if self.members is None:
                    self._tell_unknown("nobody is seen yet, a moment after the store was away")
                    await registry.handing.giving.wait_news(ASK_AGAIN_S)
        if self._is_wanted():
            log.warning("successor_unknown", cause="the members could not be read in time", next_step="drained as if alone")

    async def replace_leavers(self, left: Collection[Shard]) -> None:
        """Heirs that stay keep theirs; of one that leaves too, others get it. A store that is or was away changes nothing."""
        registry = self._registry
        staying = {member.owner for member in registry.company().members}
        orphans = [shard for shard in left if self.of.get(shard) not in staying]
        if not orphans or registry.presence.may_miss_some:
            return
        try:
            plan = await registry.bequeath(orphans)
            if plan or not registry.presence.may_miss_some:
                self.of = {shard: heir for shard, heir in self.of.items() if shard not in orphans} | plan
                await registry.handing.giving.offer(plan)
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("successors_not_asked", cause=str(exc), next_step="handed over unprepared")

    def _is_wanted(self) -> bool:
        return self.members is None and bool(self._registry.active()) and not self._registry.identity.sole

    def _tell_unknown(self, cause: str) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning("company_unknown", cause=cause, next_step="asked for again while all goes on; drained as if alone after a while")
