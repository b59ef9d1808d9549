"""Being seen and seeing the others: heartbeats, who is live, since when nobody came or left. The members are read once per heartbeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import structlog

from worker.client_registry.port import Member, Membership
from worker.client_registry.shares import MIXED_FOR_S, Company, company
from worker.domain.errors import StoreFull, StoreUnavailable

log = structlog.get_logger()

HEARTBEAT_EVERY_S = 2.0
HEARTBEAT_TTL_S = 6.0
BLIND_AFTER_S = 3.5
"""Without a look for longer than this, announcements may have ended whose workers live: the store was away, for them perhaps too."""
BACK_WITHIN_S = 3.0
"""From then on they announce themselves again: with their next heartbeat."""


class Presence:
    """`run` in a task group. `me` says what we are now."""

    def __init__(self, membership: Membership, me: Callable[[], Member], clock: Callable[[], float]) -> None:
        self._membership = membership
        self._me = me
        self._clock = clock
        self._due = anyio.Event()
        self._changed_at_s = clock()
        self._looked_at_s = clock()
        self._blind_until_s: float | None = None
        self.members: Sequence[Member] = ()
        """Who was live, us included, when it was last looked up."""
        self.is_known = False
        """Whether anybody has been looked up yet."""
        self.seen: Callable[[], None] = lambda: None
        """Called after each look."""

    async def announce(self) -> None:
        """Says what we are now. Raises `StoreUnavailable`."""
        await self._membership.announce(self._me(), ttl_s=HEARTBEAT_TTL_S)

    async def withdraw(self) -> None:
        await self._membership.withdraw(self._me().owner)

    async def look(self) -> Sequence[Member]:
        """Who is live now. Raises `StoreUnavailable`."""
        before, self.members = self.members, await self._membership.live()
        now_s = self._clock()
        if self.is_known and now_s - self._looked_at_s > BLIND_AFTER_S:
            self._blind_until_s = now_s
        self._looked_at_s = now_s
        if not self.is_known or _composition(before) != _composition(self.members):
            self._changed_at_s = now_s
        self.is_known = True
        self.seen()
        return self.members

    @property
    def may_miss_some(self) -> bool:
        """Whether the store was out of sight until a moment ago: who is not among the members need not be gone."""
        return self._blind_until_s is not None and self._clock() - self._blind_until_s < BACK_WITHIN_S

    def company(self, shards: int) -> Company:
        """Who shares the shards, as last looked up; of ourselves what is true now."""
        is_settled = self._clock() - self._changed_at_s >= MIXED_FOR_S
        return company(self.members, self._me(), shards=shards, is_settled=is_settled)

    def hurry(self) -> None:
        """What we announced is not true any more: the next heartbeat comes now."""
        self._due.set()

    async def run(self) -> None:
        """A heartbeat, and a look at the others, every two seconds."""
        while True:
            self._due = anyio.Event()
            try:
                await self.announce()
                await self.look()
            except (StoreUnavailable, StoreFull) as exc:
                log.warning("heartbeat_not_sent", cause=str(exc), next_step="sent again with the next one")
            with anyio.move_on_after(HEARTBEAT_EVERY_S):
                await self._due.wait()


def _composition(members: Sequence[Member]) -> frozenset[tuple[str, int, bool]]:
    return frozenset((m.owner, m.revision, m.ready and not m.draining) for m in members)
