"""Fair shares, worked through: many workers decide alone, from what each announced, until nothing moves any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.client_registry import shares
from worker.client_registry.port import Member, Offer
from worker.client_registry.shares import Company
from worker.domain.ids import OwnerId, Shard

A, B, C = OwnerId("a"), OwnerId("b"), OwnerId("c")
AT_ONCE = 4
ENOUGH = 200


def member(owner: str, shards: int = 0, *, revision: int = 1, family: str = "worker", ready: bool = True, draining: bool = False) -> Member:
    return Member(owner=OwnerId(owner), task=owner, family=family, revision=revision, ready=ready, draining=draining, shards=shards)


def company(*members: Member, shards: int, me: OwnerId = A, is_settled: bool = False) -> Company:
    mine = next((m for m in members if m.owner == me), member(me, ready=False))
    return shares.company(members, mine, shards=shards, is_settled=is_settled)


def some(*numbers: int) -> list[Shard]:
    return [Shard(n) for n in numbers]


@dataclass
class Fleet:
    """Workers that act in turn, each on what all announced; time is counted in rounds."""

    shards: int
    holder: dict[Shard, OwnerId] = field(default_factory=dict)
    revision: dict[OwnerId, int] = field(default_factory=dict)
    moves: Counter[Shard] = field(default_factory=Counter)
    is_settled: bool = False

    def of(self, owner: OwnerId) -> list[Shard]:
        return sorted(shard for shard, holder in self.holder.items() if holder == owner)

    def seen_by(self, owner: OwnerId) -> Company:
        members = [member(o, len(self.of(o)), revision=r) for o, r in self.revision.items()]
        me = next((m for m in members if m.owner == owner), member(owner, draining=True))
        return shares.company(members, me, shards=self.shards, is_settled=self.is_settled)

    def move(self, shard: Shard, to: OwnerId) -> None:
        self.moves[shard] += shard in self.holder
        self.holder[shard] = to

    def join(self, owner: str, revision: int = 1) -> None:
        self.revision[OwnerId(owner)] = revision
        self.settle()

    def drain(self, owner: str) -> None:
        """All at once, as a shutdown offers them."""
        leaving = OwnerId(owner)
        del self.revision[leaving]
        mine = self.of(leaving)
        for shard, heir in shares.bequest(self.seen_by(leaving), mine).items():
            offer = Offer(shard, leaving, heir, False)
            assert shares.acceptable(self.seen_by(heir), [offer]) == {shard}, "an heir takes what a leaver gives"
            self.move(shard, heir)
        if not self.revision:
            for shard in mine:
                del self.holder[shard]
        self.settle()

    def kill(self, owner: str) -> None:
        dead = OwnerId(owner)
        del self.revision[dead]
        for shard in self.of(dead):
            del self.holder[shard]
        self.settle()

    def turn(self) -> bool:
        """Each once: takes, gives a few. Whether anything moved."""
        before = dict(self.holder)
        for owner in list(self.revision):
            free = [Shard(n) for n in range(self.shards) if Shard(n) not in self.holder]
            for shard in shares.may_take(self.seen_by(owner), free):
                self.move(shard, owner)
            plan = shares.surplus(self.seen_by(owner), self.of(owner))
            for shard, taker in list(plan.items())[:AT_ONCE]:
                offer = Offer(shard, owner, taker, False)
                assert shares.acceptable(self.seen_by(taker), [offer]) == {shard}, "who is given to agrees"
                self.move(shard, taker)
        return self.holder != before

    def settle(self) -> None:
        for _ in range(ENOUGH):
            if not self.turn():
                break
        else:
            raise AssertionError(f"shards go round for ever: {self.holder}")
        if self.revision:
            overdue = frozenset(Shard(n) for n in range(self.shards) if Shard(n) not in self.holder)
            for shard in overdue:
                self.move(shard, next(o for o in self.revision if shard in shares.may_take(self.seen_by(o), overdue, overdue=overdue)))

    def check_shares(self) -> None:
        share = -(-self.shards // len(self.revision))
        assert len(self.holder) == self.shards, "every shard has an owner"
        assert max(len(self.of(owner)) for owner in self.revision) <= share


SIZES = st.integers(1, 4)
SHARDS = st.integers(1, 64)


@given(shards=SHARDS, olds=SIZES, news=SIZES)
def test_a_rolling_deploy_moves_each_shard_at_most_once_and_ends_in_fair_shares(shards: int, olds: int, news: int) -> None:
    fleet = Fleet(shards)
    for n in range(olds):
        fleet.join(f"old{n}", 1)
    fleet.check_shares()
    fleet.moves.clear()
    for n in range(news):
        fleet.join(f"new{n}", 2)
    for n in range(olds):
        fleet.drain(f"old{n}")
    fleet.check_shares()
    assert max(fleet.moves.values()) <= 1


@given(shards=SHARDS, size=SIZES)
def test_so_does_one_that_replaces_one_worker_after_the_other(shards: int, size: int) -> None:
    fleet = Fleet(shards)
    for n in range(size):
        fleet.join(f"old{n}", 1)
    fleet.moves.clear()
    for n in range(size):
        fleet.join(f"new{n}", 2)
        fleet.drain(f"old{n}")
    fleet.check_shares()
    assert max(fleet.moves.values()) <= 1


STEPS = st.lists(st.tuples(st.sampled_from(["join", "drain", "kill"]), st.integers(0, 5), st.integers(1, 3)), max_size=12)


@given(shards=SHARDS, steps=STEPS, is_settled=st.booleans())
def test_whoever_comes_leaves_or_dies_shards_come_to_rest_and_none_is_left_alone(
    shards: int, steps: Sequence[tuple[str, int, int]], is_settled: bool
) -> None:
    fleet = Fleet(shards, is_settled=is_settled)
    for act, number, revision in steps:
        name = f"w{number}"
        if act == "join" and name not in fleet.revision:
            fleet.join(name, revision)
        elif act != "join" and name in fleet.revision:
            (fleet.drain if act == "drain" else fleet.kill)(name)
        assert len(fleet.holder) == (shards if fleet.revision else 0)
        if len(set(fleet.revision.values())) == 1:
            fleet.check_shares()


@given(shards=SHARDS, held=st.lists(st.integers(0, 20), min_size=1, max_size=5), data=st.data())
def test_what_i_give_is_mine_and_goes_to_who_has_room(shards: int, held: list[int], data: st.DataObject) -> None:
    members = [member(f"w{n}", count, revision=data.draw(st.integers(1, 2))) for n, count in enumerate(held)]
    mine = [Shard(n) for n in range(held[0])]
    seen = company(*members, shards=shards, me=OwnerId("w0"), is_settled=True)
    plan = shares.surplus(seen, mine)
    assert len(plan) <= max(0, held[0] - seen.share)
    assert plan.keys() <= set(mine)
    for owner, more in Counter(plan.values()).items():
        assert owner != "w0"
        assert seen.held_by(owner) + more <= seen.share
        assert seen.has_among_newest(owner)


def test_one_worker_alone_takes_all() -> None:
    assert sorted(shares.may_take(company(member("a"), shards=3), some(0, 1, 2))) == some(0, 1, 2)


def test_two_that_start_together_take_different_halves() -> None:
    both = (member("a"), member("b"))
    taken = [shares.may_take(company(*both, shards=4, me=me), some(0, 1, 2, 3)) for me in (A, B)]
    assert taken == [some(0, 1), some(2, 3)]


def test_who_has_its_share_takes_nothing_more_until_a_shard_is_overdue() -> None:
    seen = company(member("a", 2), member("b", 0), shards=4)
    assert shares.may_take(seen, some(2, 3)) == []
    assert shares.may_take(seen, some(2, 3), overdue=frozenset(some(3))) == some(3)


def test_an_older_revision_takes_nothing_beside_a_newer_one_unless_it_is_overdue() -> None:
    seen = company(member("a", 0), member("b", 1, revision=2), shards=8)
    assert shares.may_take(seen, some(1, 2)) == []
    assert shares.may_take(seen, some(1, 2), overdue=frozenset(some(2))) == some(2)


@pytest.mark.parametrize("newer", [member("b", revision=2, ready=False), member("b", revision=2, draining=True)])
def test_a_newer_one_that_is_not_ready_or_leaves_changes_nothing(newer: Member) -> None:
    assert sorted(shares.may_take(company(member("a"), newer, shards=2), some(0, 1))) == some(0, 1)


def test_revisions_of_another_family_are_no_newer_ones() -> None:
    seen = company(member("a"), member("b", revision=9, family="other"), shards=4)
    assert shares.may_take(seen, some(0, 1, 2, 3)) == some(0, 1)
    assert not seen.is_mixed


def test_the_surplus_goes_to_who_holds_least() -> None:
    seen = company(member("a", 9), member("b", 2), member("c", 1), shards=12)
    assert Counter(shares.surplus(seen, some(*range(9))).values()) == {B: 2, C: 3}


def test_while_two_revisions_have_just_met_nothing_moves_and_later_the_older_gives_to_the_newer() -> None:
    members = (member("a", 4), member("b", 4), member("c", 0, revision=2))
    assert shares.surplus(company(*members, shards=8), some(0, 1, 2, 3)) == {}
    assert shares.surplus(company(*members, shards=8, is_settled=True), some(0, 1, 2, 3)) == {Shard(3): C}


def test_the_oldest_give_first() -> None:
    members = (member("a", 5, revision=2), member("b", 4, revision=1), member("c", 0, revision=2))
    seen = company(*members, shards=6, is_settled=True)
    assert shares.surplus(seen, some(0, 1, 2, 3, 4)) == {}, "what c may take comes from b"


def test_what_came_by_a_handover_a_moment_ago_stays() -> None:
    seen = company(member("a", 3), member("b", 0), shards=3)
    assert shares.surplus(seen, some(0, 1, 2), resting=frozenset(some(2))) == {Shard(1): B}
    assert shares.surplus(seen, some(0, 1, 2), resting=frozenset(some(0, 1, 2))) == {}


def test_offers_on_the_table_count_as_given() -> None:
    seen = company(member("a", 4), member("b", 0), shards=4).once_given([Offer(Shard(3), A, B, False), Offer(Shard(2), A, B, True)])
    assert (seen.held_by(A), seen.held_by(B)) == (2, 2)
    assert shares.surplus(seen, some(0, 1)) == {}


def test_who_leaves_gives_all_to_the_newest_that_stay_evenly() -> None:
    members = (member("b", 3, revision=2), member("c", 1, revision=2), member("d", 0, revision=1))
    plan = shares.bequest(company(*members, shards=9), some(0, 1, 2, 3))
    assert Counter(plan.values()) == {B: 1, C: 3}


def test_where_only_older_ones_stay_they_inherit_and_where_nobody_stays_nobody_does() -> None:
    assert shares.bequest(company(member("b", revision=1), shards=2), some(0, 1)) == {Shard(0): B, Shard(1): B}
    assert shares.bequest(company(shards=2), some(0, 1)) == {}


def offers(*numbers: int, giver: OwnerId = B) -> list[Offer]:
    return [Offer(Shard(n), giver, A, False) for n in numbers]


def test_a_taker_accepts_up_to_its_share_and_everything_from_who_leaves() -> None:
    seen = company(member("a", 1), member("b", 5), shards=4)
    assert shares.acceptable(seen, offers(0, 1, 2)) == frozenset(some(0))
    assert shares.acceptable(seen, [*offers(0), *offers(1, 2, giver=C)]) == frozenset(some(1, 2))


def test_what_was_accepted_stays_accepted_while_it_is_offered() -> None:
    seen = company(member("a", 1), member("b", 5), shards=4)
    assert shares.acceptable(seen, offers(0, 1, 2), accepted=frozenset(some(2, 3))) == frozenset(some(2))


def test_who_leaves_or_is_older_than_another_accepts_nothing() -> None:
    assert shares.acceptable(company(member("a", draining=True), member("b"), shards=4), offers(0)) == frozenset()
    assert shares.acceptable(company(member("a"), member("c", revision=2), shards=4), offers(0)) == frozenset()
