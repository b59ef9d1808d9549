"""The door: when it refuses, whom, and on which figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.errors import StoreUnavailable
from worker.domain.ids import Shard, TenantId
from worker.ingest.door import Door, DoorState, Refusal, RoomLimits, Tally, refusal

ACME, BETA = TenantId("acme"), TenantId("beta")
LIMITS = RoomLimits(max_events=100, max_bytes=10_000, tenant_share=0.25)


class Figures:
    """A store whose figures a test sets; away when told so."""

    def __init__(self) -> None:
        self.by_shard: dict[Shard, dict[TenantId, tuple[int, int]]] = {}
        self.fill = 0.0
        self.is_away = False
        self.asked = 0
        self.on_ask: Callable[[], None] | None = None

    async def waiting(self, shards: Sequence[Shard]) -> Mapping[Shard, Mapping[TenantId, tuple[int, int]]]:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("away")
        answer = {shard: dict(self.by_shard.get(shard, {})) for shard in shards}
        if self.on_ask is not None:
            self.on_ask()
        return answer

    async def memory_fill(self) -> float:
        return self.fill


def tally(**events: int) -> Tally:
    made = Tally()
    for tenant, count in events.items():
        made.add(TenantId(tenant), count, count)
    return made


def door(figures: Figures, limits: RoomLimits = LIMITS) -> Door:
    return Door(figures, [Shard(0), Shard(1)], limits)


def test_with_room_nobody_is_refused() -> None:
    assert refusal([tally(acme=24)], 0.0, ACME, LIMITS) is None


def test_a_tenant_beyond_its_share_is_refused_and_nobody_else() -> None:
    tallies = [tally(acme=20), tally(acme=5)]
    assert refusal(tallies, 0.0, ACME, LIMITS) is Refusal.TENANT_BACKLOG_FULL
    assert refusal(tallies, 0.0, BETA, LIMITS) is None


def test_at_80_percent_of_the_events_everybody_is_refused() -> None:
    assert refusal([tally(a=20, b=20, c=20, d=20)], 0.0, BETA, LIMITS) is Refusal.JOURNAL_FULL
    assert refusal([tally(a=20, b=20, c=20, d=19)], 0.0, BETA, LIMITS) is None


def test_bytes_count_like_events() -> None:
    full, fat = Tally(), Tally()
    full.add(BETA, 1, 8_000)
    fat.add(ACME, 1, 2_500)
    assert refusal([full], 0.0, ACME, LIMITS) is Refusal.JOURNAL_FULL
    assert refusal([fat], 0.0, ACME, LIMITS) is Refusal.TENANT_BACKLOG_FULL


def test_at_80_percent_of_the_stores_memory_everybody_is_refused() -> None:
    assert refusal([], 0.8, ACME, LIMITS) is Refusal.JOURNAL_FULL
    assert refusal([], 0.79, ACME, LIMITS) is None


def test_a_tenant_alone_may_fill_everything_but_the_reserve() -> None:
    alone = RoomLimits(max_events=100, max_bytes=10_000, tenant_share=1.0)
    assert refusal([tally(acme=79)], 0.0, ACME, alone) is None
    assert refusal([tally(acme=80)], 0.0, ACME, alone) is Refusal.JOURNAL_FULL


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40))), st.integers(0, 40))
def test_what_other_tenants_hold_never_makes_a_tenants_own_share_full(held: list[tuple[str, int]], own: int) -> None:
    others = Tally()
    for tenant, count in held:
        others.add(TenantId(tenant), count, 0)
    mine = tally(acme=own)
    assert (refusal([mine, others], 0.0, ACME, LIMITS) is Refusal.TENANT_BACKLOG_FULL) <= (own >= 25)


@pytest.mark.anyio
async def test_the_shards_are_summed() -> None:
    figures = Figures()
    figures.by_shard = {Shard(0): {ACME: (13, 0)}, Shard(1): {ACME: (12, 0)}}
    it = door(figures)
    assert it.refused(ACME) is None
    assert await it.refresh()
    assert it.refused(ACME) is Refusal.TENANT_BACKLOG_FULL


@pytest.mark.anyio
async def test_what_came_in_since_the_last_figures_counts() -> None:
    it = door(Figures())
    it.count(ACME, 24, 0)
    assert it.refused(ACME) is None
    it.count(ACME, 1, 0)
    assert it.refused(ACME) is Refusal.TENANT_BACKLOG_FULL


@pytest.mark.anyio
async def test_what_came_in_before_the_figures_is_in_them_and_what_came_in_during_them_is_kept() -> None:
    figures = Figures()
    it = door(figures)
    it.count(ACME, 25, 0)
    figures.by_shard = {Shard(0): {ACME: (10, 0)}}
    figures.on_ask = lambda: it.count(ACME, 3, 0)
    await it.refresh()
    assert it.waiting() == (13, 0)


@pytest.mark.anyio
async def test_figures_that_cannot_be_read_leave_the_last_ones_and_all_that_came_in_since() -> None:
    figures = Figures()
    figures.by_shard = {Shard(0): {ACME: (20, 0)}}
    it = door(figures)
    await it.refresh()
    it.count(ACME, 3, 0)
    figures.is_away = True
    assert not await it.refresh()
    it.count(ACME, 1, 0)
    assert not await it.refresh()
    assert it.waiting() == (24, 0)
    assert it.refused(ACME) is None
    it.count(ACME, 1, 0)
    assert it.refused(ACME) is Refusal.TENANT_BACKLOG_FULL


@pytest.mark.anyio
async def test_a_door_that_leaves_still_takes_and_a_shut_one_never_does() -> None:
    it = door(Figures())
    seen: list[tuple[DoorState, Refusal | None]] = []
    for step in (it.leave, it.shut, it.leave):
        step()
        seen.append((it.state, it.refused(ACME)))
    assert seen == [(DoorState.LEAVING, None), (DoorState.SHUT, Refusal.DRAINING), (DoorState.SHUT, Refusal.DRAINING)]


@pytest.mark.anyio
async def test_shutting_the_door_ends_its_refresher() -> None:
    figures = Figures()
    it = door(figures)
    with anyio.fail_after(2):
        async with anyio.create_task_group() as tasks:
            await tasks.start(it.run)
            it.shut()
    assert figures.asked == 1
