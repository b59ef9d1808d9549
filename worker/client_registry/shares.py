"""Who should hold how many shards, and which go from whom to whom: the decisions of the client_registry (decision 0015). Pure.

Everybody decides alone, from the same announcements and offers; views may differ for a heartbeat. So nothing here is permission: the
lease table decides, an offer that does not fit is declined, and what is a shard too many here is corrected later.

| company | free shards | surplus over the fair share |
|---|---|---|
| one revision | anybody, up to its share | given to who is below its share, who holds least first |
| two revisions, changed lately | the newest, up to its share | stays: who holds it is about to be drained, and then it moves once |
| two revisions, for `MIXED_FOR_S` | the newest, up to its share | given to the newest; the oldest give first |

A draining worker gives everything to the newest of those that stay. A shard that is free for `UNCLAIMED_S` is anybody's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from worker.client_registry.port import Member, Offer
from worker.domain.ids import OwnerId, Shard

UNCLAIMED_S = 5.0
"""How long a free shard waits for those who should have it."""
MIXED_FOR_S = 300.0
"""Two revisions side by side for so long, and nobody came or left: not a deployment under way, but a company to live with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Who shares the shards: `members` are ready and stay, me among them unless I leave; `is_settled`: nobody came or left lately."""

    shards: int
    me: OwnerId
    members: tuple[Member, ...]
    is_settled: bool = False

    @property
    def share(self) -> int:
        """The most that one of them should hold."""
        return -(-self.shards // max(1, len(self.members)))

    @property
    def newest(self) -> tuple[Member, ...]:
        """Those that nobody of their family outdates: revisions compare within one family only."""
        last: dict[str, int] = {}
        for member in self.members:
            last[member.family] = max(member.revision, last.get(member.family, member.revision))
        return tuple(m for m in self.members if m.revision == last[m.family])

    @property
    def is_mixed(self) -> bool:
        return len(self.newest) < len(self.members)

    @property
    def may_move(self) -> bool:
        """Whether surplus is given at all: while two revisions have just met, those who hold it are about to be drained."""
        return self.is_settled or not self.is_mixed

    def held_by(self, owner: OwnerId) -> int:
        return next((m.shards for m in self.members if m.owner == owner), 0)

    def has_among_newest(self, owner: OwnerId) -> bool:
        return any(m.owner == owner for m in self.newest)

    def once_given(self, offers: Iterable[Offer]) -> Company:
        """As it will be when these offers have become grants."""
        coming = Counter(offer.taker for offer in offers)
        coming.subtract(Counter(offer.giver for offer in offers))
        members = (replace(m, shards=max(0, m.shards + coming[m.owner])) for m in self.members)
        return replace(self, members=tuple(members))

    def with_no_room_at(self, owners: Container[OwnerId]) -> Company:
        """As if these had their share."""
        members = (replace(m, shards=max(m.shards, self.share)) if m.owner in owners else m for m in self.members)
        return replace(self, members=tuple(members))

    def with_counts(self, held: Mapping[OwnerId, int]) -> Company:
        """As the lease table has it, where somebody looked: announcements are up to a heartbeat old."""
        return replace(self, members=tuple(replace(m, shards=held.get(m.owner, 0)) for m in self.members))

    def holding(self, count: int) -> Company:
        """As if I held so many."""
        return replace(self, members=tuple(replace(m, shards=count) if m.owner == self.me else m for m in self.members))


def company(members: Iterable[Member], me: Member, *, shards: int, is_settled: bool) -> Company:
    """From announcements, in which we may stand as we were a heartbeat ago."""
    others = (m for m in members if m.owner != me.owner)
    staying = sorted((m for m in (*others, me) if m.ready and not m.draining), key=lambda m: m.owner)
    return Company(shards=shards, me=me.owner, members=tuple(staying), is_settled=is_settled)


def may_take(company: Company, free: Iterable[Shard], *, overdue: frozenset[Shard] = frozenset()) -> list[Shard]:
    """Which of the shards that nobody holds I may ask for now, in the order to ask in; `overdue`: free for `UNCLAIMED_S`.

    Those who may take begin at different places, so that they rarely ask for the same.
    """
    ordered = sorted(free)
    allowed: list[Shard] = []
    if company.has_among_newest(company.me):
        room = max(0, company.share - company.held_by(company.me))
        start = next(i for i, m in enumerate(company.newest) if m.owner == company.me) * company.share % max(1, len(ordered))
        allowed = (ordered[start:] + ordered[:start])[:room]
    return allowed + [shard for shard in ordered if shard in overdue and shard not in allowed]


def surplus(company: Company, mine: Iterable[Shard], *, resting: frozenset[Shard] = frozenset()) -> dict[Shard, OwnerId]:
    """What I should give, and to whom. `resting`: came to me by a handover a moment ago, and stay for now."""
    if not company.may_move:
        return {}
    held = {m.owner: m.shards for m in company.members}
    giving = [shard for shard in sorted(mine, reverse=True) if shard not in resting]
    givers = sorted((m for m in company.members if m.shards > company.share), key=lambda m: (m.revision, -m.shards, m.owner))
    plan: dict[Shard, OwnerId] = {}
    for giver in givers:
        for _ in range(giver.shards - company.share):
            taker = _least(held, (m.owner for m in company.newest if m.owner != giver.owner))
            if taker is None or held[taker] >= company.share:
                return plan
            held[taker] += 1
            if giver.owner == company.me and giving:
                plan[giving.pop(0)] = taker
    return plan


def bequest(company: Company, mine: Iterable[Shard]) -> dict[Shard, OwnerId]:
    """What becomes of everything I hold when I leave (I am no member any more). Empty where nobody stays."""
    heirs = company.newest
    held = {m.owner: m.shards for m in heirs}
    plan: dict[Shard, OwnerId] = {}
    for shard in sorted(mine):
        heir = _least(held, held)
        if heir is not None:
            held[heir] += 1
            plan[shard] = heir
    return plan


def acceptable(company: Company, offers: Sequence[Offer], *, accepted: frozenset[Shard] = frozenset()) -> frozenset[Shard]:
    """Which of the offers made to me I should prepare for: all from who leaves, from who stays no more than up to my share.

    `accepted` before: stay so while they are offered.
    """
    if not company.has_among_newest(company.me):
        return frozenset()
    staying = {m.owner for m in company.members}
    taken = {o.shard for o in offers if o.shard in accepted or o.giver not in staying}
    room = company.share - company.held_by(company.me) - len(taken)
    others = [o.shard for o in sorted(offers) if o.shard not in taken]
    return frozenset(taken) | frozenset(others[: max(0, room)])


def _least(held: Mapping[OwnerId, int], owners: Iterable[OwnerId]) -> OwnerId | None:
    return min(owners, key=lambda owner: (held[owner], owner), default=None)
