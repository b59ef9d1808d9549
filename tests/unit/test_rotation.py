"""Why a worker stops, told from who is there beside it and from what ECS wants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.client_registry.port import Member
from worker.client_registry.registry import Identity
from worker.client_registry.rotation import UNTOLD, Reason, Rotation, Source, rotation
from worker.domain.ids import OwnerId

ME = Identity(owner=OwnerId("me"), task="t", family="worker", revision=7, sole=False, is_managed=True)
BY_HAND = replace(ME, family="", revision=0, is_managed=False)


def member(revision: int = 7, *, family: str = "worker", owner: str = "other", ready: bool = True, draining: bool = False) -> Member:
    return Member(owner=OwnerId(owner), task="t2", family=family, revision=revision, ready=ready, draining=draining, shards=0)


def test_a_ready_newer_revision_is_a_deployment() -> None:
    assert rotation(ME, [member(7), member(8, owner="new")], is_told_to_stop=True) == (Reason.DEPLOYMENT, Source.MEMBERSHIP)


def test_our_own_revision_is_a_replacement() -> None:
    assert rotation(ME, [member(7)], is_told_to_stop=True) == (Reason.REPLACEMENT, Source.MEMBERSHIP)


def test_nobody_else_is_a_scale_in() -> None:
    assert rotation(ME, [member(owner="me")], is_told_to_stop=None) == (Reason.SCALE_IN, Source.MEMBERSHIP)


def test_where_nobody_manages_us_nobody_else_is_local() -> None:
    assert rotation(BY_HAND, [], is_told_to_stop=None) == (Reason.LOCAL, Source.MEMBERSHIP)


def test_where_nobody_manages_us_another_worker_still_replaces_us() -> None:
    assert rotation(BY_HAND, [member(0, family="")], is_told_to_stop=None) == (Reason.REPLACEMENT, Source.MEMBERSHIP)


def test_an_older_revision_left_alone_means_that_ours_is_rolled_back() -> None:
    assert rotation(ME, [member(6)], is_told_to_stop=True).reason is Reason.DEPLOYMENT


def test_an_older_revision_beside_our_own_means_nothing() -> None:
    assert rotation(ME, [member(6), member(7, owner="twin")], is_told_to_stop=True).reason is Reason.REPLACEMENT


def test_a_larger_number_of_another_family_is_not_newer() -> None:
    assert rotation(ME, [member(900, family="another")], is_told_to_stop=True).reason is Reason.REPLACEMENT


@pytest.mark.parametrize("gone", [member(8, ready=False), member(8, draining=True)])
def test_who_is_not_ready_or_leaves_too_does_not_come_after_us(gone: Member) -> None:
    assert rotation(ME, [gone], is_told_to_stop=None).reason is Reason.SCALE_IN


@pytest.mark.parametrize("others", [[], [member(7)], None])
def test_a_task_that_ecs_wants_running_was_stopped_by_somebody_here(others: list[Member] | None) -> None:
    assert rotation(ME, others, is_told_to_stop=False) == (Reason.LOCAL, Source.ECS)


def test_a_newer_revision_counts_more_than_what_ecs_wants() -> None:
    assert rotation(ME, [member(8)], is_told_to_stop=False) == (Reason.DEPLOYMENT, Source.MEMBERSHIP)


@pytest.mark.parametrize("told", [None, True])
def test_an_unread_membership_leaves_it_unknown(told: bool | None) -> None:
    assert rotation(ME, None, is_told_to_stop=told) == UNTOLD == (Reason.UNKNOWN, Source.NONE)


def test_who_alone_holds_the_store_needs_nobody_to_say_that_it_is_alone() -> None:
    assert rotation(replace(BY_HAND, sole=True), None, is_told_to_stop=None) == (Reason.LOCAL, Source.NONE)


MEMBERS = st.builds(
    member,
    st.integers(0, 9),
    family=st.sampled_from(["worker", "another", ""]),
    owner=st.sampled_from(["me", "a", "b"]),
    ready=st.booleans(),
    draining=st.booleans(),
)


@given(me=st.sampled_from([ME, BY_HAND]), members=st.none() | st.lists(MEMBERS), told=st.sampled_from([None, True, False]))
def test_there_is_always_a_reason_and_the_order_of_members_does_not_matter(
    me: Identity, members: list[Member] | None, told: bool | None
) -> None:
    why = rotation(me, members, is_told_to_stop=told)
    assert isinstance(why, Rotation)
    assert rotation(me, members and members[::-1], is_told_to_stop=told) == why
    assert (why.reason is Reason.UNKNOWN) <= (members is None)
