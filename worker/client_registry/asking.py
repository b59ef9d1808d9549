"""Which shards to ask the lease table for, from who holds what and who is live. Pure, but for remembering since when a shard is free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from worker.client_registry.shares import UNCLAIMED_S, Company, may_take
from worker.domain.ids import OwnerId, Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What is ours already, or as good as: `suspended` tenures come first where nobody else took them, `expected` were promised to us."""

    active: Collection[Shard]
    suspended: Collection[Shard]
    expected: Collection[Shard]


class Unclaimed:
    """Since when each shard has been nobody's, as far as we saw."""

    def __init__(self) -> None:
        self._since_s: dict[Shard, float] = {}

    def overdue(self, free: Iterable[Shard], now_s: float) -> frozenset[Shard]:
        """Of those that are free now: which have been for `UNCLAIMED_S`, although somebody could have taken them."""
        self._since_s = {shard: self._since_s.get(shard, now_s) for shard in free}
        return frozenset(shard for shard, since_s in self._since_s.items() if now_s - since_s >= UNCLAIMED_S)


def to_ask_for(
    company: Company, holders: Mapping[Shard, OwnerId], live: Collection[OwnerId], ours: Holdings, overdue: frozenset[Shard]
) -> list[Shard]:
    """In this order: what is ours, what is free (up to our share, or overdue), and what somebody holds who is not live any more.

    The last are asked for only to learn when their leases end. `live` are all who announce themselves, also those that leave.
    """
    rest = [Shard(number) for number in range(company.shards) if Shard(number) not in ours.active]
    mine = [s for s in rest if holders.get(s) == company.me or (s not in holders and (s in ours.suspended or s in ours.expected))]
    free = [s for s in rest if s not in holders and s not in mine]
    taken = may_take(company.holding(len(ours.active) + len(mine)), free, overdue=overdue)
    orphaned = [s for s in rest if s in holders and s not in mine and holders[s] not in live]
    return mine + taken + may_take(company.holding(len(ours.active) + len(mine) + len(taken)), orphaned)
