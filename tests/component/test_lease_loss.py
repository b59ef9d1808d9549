"""Leases that end without a release: the store away, somebody else's lease, a hang, a store that went back. Nothing lost, ever."""

# ruff: noqa: SLF001 -- the twin is told what only a store could do to itself

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.component.rig import Worker, now_s, pass_time, rig, until, webhook
from tests.component.steps import At
from worker.adapters.memory_transport import Answers, Hangs
from worker.client_registry.tenure import TenureState
from worker.domain.ids import OwnerId, Position, Shard

pytestmark = pytest.mark.anyio

SLOW = webhook("slow", deadline_s=30.0)
TTL_S = 15.0


def tell_the_store_its_lease_is_over(it: Any, shard: int) -> None:
    """As if the owner had been away for a TTL."""
    it.store.leases._shards[Shard(shard)].lease = None


async def test_a_minute_without_the_store_refuses_at_the_door_and_repeats_nothing_afterwards() -> None:
    async with rig(webhook("quick"), webhook("slow", deadline_s=20.0)) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=1.0))
        await it.push(a, 30)
        await pass_time(0.1)
        a.faults.away = True
        replies = await it.push(a, 3)
        assert {reply.status for reply in replies} == {503}
        assert all(reply.headers["Retry-After"] for reply in replies)
        await pass_time(60)
        assert a.holds == set()
        a.faults.away = False
        it.answer("slow")
        await until(lambda: len(a.holds) == it.shards, within_s=5, what="it owns its shards again")
        await it.push(a, 5)
        await it.all_delivered(within_s=30)
        await it.nothing_waits()
        assert it.duplicates() == 0
        assert a.engine.metrics.client_registry_leases_lost.cells == {("redis",): it.shards}


async def test_a_retry_that_was_answered_while_the_store_was_away_is_settled_when_it_is_back() -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(status=500), Answers(after_s=1.0))
        await it.push(a, 1)
        await until(lambda: len(it.attempts("crm")) == 2, within_s=10, what="the retry is under way")
        a.faults.away = True
        await pass_time(60)
        assert sum(it.deliveries("crm").values()) == 1
        a.faults.away = False
        await it.nothing_waits()
        assert it.duplicates() == 0


@pytest.mark.parametrize("k", range(1, 21))
async def test_the_store_goes_away_at_any_step_for_five_seconds(k: int) -> None:
    async with rig(webhook("quick"), webhook("slow"), webhook("failing")) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=0.3))
        it.answer("failing", Answers(status=500), Answers(), Answers(status=503), Answers())

        def go_away() -> None:
            a.faults.away = True

        At(a, k, go_away)
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(it.push, a, 8)
            await pass_time(5)
            a.faults.away = False
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        assert it.duplicates() == 0


@pytest.mark.parametrize("k", range(1, 21))
async def test_a_lease_stolen_at_any_step_loses_nothing_and_the_loser_writes_nothing_more(k: int) -> None:
    async with rig(webhook("quick"), webhook("slow"), webhook("failing")) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=0.3))
        it.answer("failing", Answers(status=500), Answers(), Answers(status=503), Answers())

        async def steal() -> None:
            for n in range(it.shards):
                tell_the_store_its_lease_is_over(it, n)
                await it.store.leases.acquire(Shard(n), OwnerId("b-1"), ttl_s=TTL_S, sole=False)
            thief = await it.start("b")
            assert thief.owner == "b-1"

        thief = anyio.Event()
        At(a, k, thief.set)
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(it.push, a, 8)
            with anyio.move_on_after(4):
                await thief.wait()
            await steal()
        [_, b] = it.workers
        await until(lambda: len(b.holds) == it.shards, within_s=20, what="the thief holds all")
        await until(lambda: not a.holds, within_s=20, what="the loser has noticed")
        it.answer("slow")
        it.answer("failing")
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
        unsaved = sum(one.at_s >= a.saved_at_s.get(one.shard, 0.0) for one in a.wire.answered)
        assert it.duplicates() <= unsaved, "what the loser had done since its last checkpoint, and did before it noticed"


async def test_a_stale_write_is_refused_counted_and_ends_the_tenure() -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        tell_the_store_its_lease_is_over(it, 0)
        await it.store.leases.acquire(Shard(0), OwnerId("thief"), ttl_s=TTL_S, sole=False)
        [tenure] = a.engine.registry.active()
        await it.push(a, 1)
        await until(lambda: tenure.state is TenureState.ENDED, within_s=1, what="the tenure has ended")
        assert a.engine.metrics.client_registry_stale_writes_refused.cells == {(): 1}
        assert a.engine.metrics.client_registry_leases_lost.cells == {("stale",): 1}
        await it.all_delivered(within_s=40)
        await it.nothing_waits()


async def test_outcomes_of_before_a_suspension_are_written_after_it() -> None:
    async with rig(webhook("crm"), shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(after_s=1.0))
        await it.push(a, 6)
        await pass_time(0.5)
        a.faults.away = True
        await until(lambda: not a.holds, within_s=20, what="suspended")
        answered = sum(it.deliveries("crm").values())
        assert answered > 0
        a.faults.away = False
        it.answer("crm")
        await it.all_delivered(within_s=20)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_a_lease_found_again_before_it_ran_out_is_trusted_no_longer_than_the_store_keeps_it() -> None:
    """`acquire` answers the holder's own token without extending anything; believing in a fresh TTL would make two owners."""
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        [tenure] = a.engine.registry.active()
        a.faults.away = True
        await until(lambda: not a.holds, within_s=20, what="suspended")
        a.faults.away = False

        async def no_renewal(script: str) -> None:
            if script == "renew":
                await pass_time(3_600)

        a.faults.before = no_renewal
        for _ in range(600):
            await pass_time(0.05)
            lease = it.store.leases._shards[Shard(0)].lease
            if tenure.may_write(now_s()):
                assert lease is not None
                assert lease.ends_at_s >= now_s(), "the worker believes in a lease that the store has ended"


async def test_a_lane_that_met_a_lease_about_to_be_renewed_goes_on_by_itself() -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        [tenure] = a.engine.registry.active()
        it.answer("crm", Answers(after_s=0.03))
        await it.push(a, 2)
        await pass_time(0.01)
        valid_until_s, tenure.valid_until_s = tenure.valid_until_s, now_s()
        await pass_time(0.03)
        assert sum(it.deliveries("crm").values()) == 1, "answered while the lease was in doubt, so that the lane found no next"
        tenure.valid_until_s = valid_until_s
        await it.all_delivered(within_s=1)


async def test_a_reader_that_hangs_loses_the_lease_and_another_worker_takes_over() -> None:
    async with rig() as it:
        a = await it.owning()
        b = await it.start("b")

        async def hang(script: str) -> None:
            if script == "read":
                await anyio.sleep_forever()

        a.faults.before = hang
        await pass_time(1.1)
        await it.push(b, 5)
        await until(lambda: len(b.holds) == it.shards, within_s=40, what="b took over")
        await it.all_delivered(within_s=5)
        await pass_time(30)
        assert a.holds == set()
        assert ("stalled",) in a.engine.metrics.client_registry_leases_lost.cells
        await it.nothing_waits()
        assert it.duplicates() == 0
        a.faults.before = None


async def test_a_hanging_endpoint_is_not_a_stall() -> None:
    async with rig(SLOW) as it:
        a = await it.owning()
        it.answer("slow", Hangs())
        await it.push(a, 5)
        tokens = {tenure.token for tenure in a.engine.registry.active()}
        await pass_time(120)
        assert {tenure.token for tenure in a.engine.registry.active()} == tokens
        assert a.engine.metrics.client_registry_leases_lost.cells == {}
        it.answer("slow")
        await it.all_delivered(within_s=400)
        await it.nothing_waits()


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("slow_turns")
async def test_an_idle_night_changes_nothing() -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        [tenure] = a.engine.registry.active()
        token = tenure.token
        await pass_time(8 * 3_600)
        assert a.engine.registry.active() == [tenure]
        assert tenure.token == token
        await it.push(a, 3)
        await it.all_delivered(within_s=10)
        await it.nothing_waits()


async def test_a_lease_given_up_is_not_lost_to_the_renewal_that_finds_it_gone() -> None:
    """The release has run, and its answer takes longer than to the next renewal."""
    async with rig(shards=2, instances=2) as it:
        a = await it.owning()

        async def late(script: str) -> None:
            if script == "release":
                await pass_time(TTL_S / 3)

        a.faults.after = late
        await it.shut_down(a)
        assert not a.engine.metrics.client_registry_leases_lost.cells


@pytest.mark.usefixtures("slow_turns")
async def test_a_standby_waits_for_an_hour_and_nothing_changes() -> None:
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        b = await it.start("b")
        tokens = {tenure.shard: tenure.token for tenure in a.engine.registry.active()}
        role = b.engine.registry.role()
        assert role["role"] == "standby"
        await pass_time(3_600)
        assert {tenure.shard: tenure.token for tenure in a.engine.registry.active()} == tokens
        assert b.engine.registry.role() == role


async def test_a_standby_takes_over_within_the_ttl_of_a_killed_worker() -> None:
    async with rig() as it:
        a = await it.owning()
        b = await it.start("b")
        await it.push(a, 10)
        await a.kill()
        killed_s = now_s()
        await until(lambda: len(b.holds) == it.shards, within_s=16, what="b owns all")
        assert now_s() - killed_s <= 16
        await it.all_delivered(within_s=5)
        await it.nothing_waits()


async def go_back(it: Any, a: Worker, lost: int) -> None:
    """The store dies and comes back without its last `lost` events, as one that writes to disk each second may."""
    a.faults.away = True
    a.engine.reader.poke()  # its connection breaks
    await pass_time(0.5)
    state = it.store.checkpoints._shards[Shard(0)]
    state.segments = [segment for segment in state.segments if segment.end <= state.next_position - lost]
    state.next_position = Position(state.next_position - lost)
    state.prefix = min(state.prefix, state.next_position)
    state.recount_waiting()
    state.seen.position_of = lambda _key: None
    it.accepted = it.accepted[:-lost]
    a.faults.away = False


async def test_a_store_that_went_back_loses_nothing_that_came_after() -> None:
    """What it lost it had announced it may lose; positions given out again must not look done."""
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        await it.push(a, 10)
        await it.all_delivered(within_s=2)
        await pass_time(0.3)
        await go_back(it, a, 4)
        await until(lambda: a.engine.reader.turned_at_s >= now_s() - 0.5, within_s=5, what="the reader turns")
        await pass_time(3)
        await it.push(a, 12)
        await it.all_delivered(within_s=20)
        await it.nothing_waits()


async def test_a_store_that_went_back_with_attempts_under_way_loses_nothing_that_came_after() -> None:
    async with rig(webhook("crm"), webhook("failing"), shards=1, instances=1) as it:
        a = await it.owning()
        it.answer("crm", Answers(after_s=0.8))
        it.answer("failing", Answers(status=500, after_s=0.8), Answers())
        await it.push(a, 10)
        await pass_time(0.2)
        await go_back(it, a, 4)
        it.answer("crm")
        await pass_time(3)
        await it.push(a, 12)
        await it.all_delivered(within_s=60)
        await it.nothing_waits()
