"""Several workers share the shards: who comes gets its share, who goes gives all, and no event is lost or comes twice over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.component.rig import Rig, Worker, now_s, pass_time, rig, until, webhook
from tests.component.sharing_world import Streams, Watch
from tests.component.steps import At
from worker.adapters.memory_transport import Answers, Hangs
from worker.client_registry.port import Member
from worker.client_registry.rebalancing import ASK_AGAIN_S, PATIENCE_S
from worker.client_registry.shares import MIXED_FOR_S, UNCLAIMED_S
from worker.domain.ids import OwnerId, Shard
from worker.drain_report import balances, ledger

pytestmark = pytest.mark.anyio

HOOKS = (webhook("quick"), webhook("slow"), webhook("failing"))
EIGHT: dict[str, Any] = {"shards": 8, "instances": 16}


async def shared(it: Rig, *workers: Worker, within_s: float = 60) -> None:
    """Every shard has one owner among these, and nobody more than its share."""
    share = -(-it.shards // len(workers))

    def is_so() -> bool:
        held = [shard for worker in workers for shard in worker.holds]
        return len(held) == it.shards == len(set(held)) and all(len(worker.holds) <= share for worker in workers)

    await until(is_so, within_s=within_s, what=f"shared among {[w.name for w in workers]}")


@asynccontextmanager
async def under_load(it: Rig, *, every_s: float = 0.02) -> AsyncIterator[None]:
    """Events of mixed fate for whoever is there, all the time."""
    it.answer("slow", Answers(after_s=0.3))
    it.answer("failing", Answers(status=500), Answers(), Answers(status=503), Answers())

    async def push() -> None:
        while True:
            living = [worker for worker in it.workers if not worker.is_over]
            await it.push(living[it.number % len(living)])
            await pass_time(every_s)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(push)
        yield
        tasks.cancel_scope.cancel()


async def nothing_lost_and_nothing_twice(it: Rig) -> None:
    it.answer("slow")
    it.answer("failing")
    await it.all_delivered(within_s=120)
    await it.nothing_waits()
    assert it.duplicates() == 0


async def test_a_second_worker_gets_its_half_and_nothing_is_lost_or_comes_twice() -> None:
    async with rig(*HOOKS, **EIGHT) as it:
        watch = Watch(it)
        a = await it.owning("a")
        async with under_load(it):
            await pass_time(1)
            b = await it.start("b")
            await shared(it, a, b)
            await pass_time(2)
        assert max(watch.gaps_s) < 0.1
        assert len(watch.gaps_s) == 4
        await nothing_lost_and_nothing_twice(it)


async def test_workers_that_come_one_after_the_other_all_get_their_share() -> None:
    async with rig(shards=12, instances=12) as it:
        workers = [await it.owning("a")]
        for name in "bcd":
            workers.append(await it.start(name))
            await shared(it, *workers, within_s=120)
        assert {len(worker.holds) for worker in workers} == {3}


async def test_a_worker_with_its_share_gives_and_takes_nothing_more() -> None:
    async with rig(**EIGHT) as it:
        a = await it.owning("a")
        b = await it.start("b")
        await shared(it, a, b)
        await pass_time(5)
        watch = Watch(it)
        await pass_time(120)
        assert watch.owners == {}
        assert await it.store.handovers.offers() == []


@pytest.mark.parametrize(("olds", "news"), [(1, 1), (2, 2), (3, 2), (1, 3)])
async def test_a_rolling_deploy_moves_each_shard_once(olds: int, news: int) -> None:
    async with rig(*HOOKS, **EIGHT) as it:
        old = [await it.start(f"old{n}", revision=1) for n in range(olds)]
        await shared(it, *old, within_s=120)
        await pass_time(5)
        watch = Watch(it)
        async with under_load(it):
            new = []
            for n in range(news):
                new.append(await it.start(f"new{n}", revision=2))
                await pass_time(7)
            for worker in old:
                shutdown = await it.shut_down(worker)
                assert balances(ledger(list(shutdown.accounts.values())))
                assert {account.released_to for account in shutdown.accounts.values()} <= {w.owner for w in new}
                assert shutdown.rotation.reason == "deployment"
                await pass_time(3)
            await shared(it, *new)
        assert set(watch.moves().values()) <= {0}, "since the watch began each shard was granted to one worker only"
        assert sorted(watch.owners) == [Shard(n) for n in range(8)]
        assert max(watch.gaps_s) < 0.1
        await nothing_lost_and_nothing_twice(it)


async def test_olds_that_leave_together_give_nothing_to_each_other() -> None:
    """Of one revision, so that only the wish to leave tells them apart; both learn of the other's a moment too late."""
    async with rig(*HOOKS, **EIGHT) as it:
        old = [await it.start(name) for name in "ab"]
        await shared(it, *old)
        new = [await it.start(name) for name in "cd"]
        await pass_time(60)
        watch = Watch(it)
        async with under_load(it):
            async with anyio.create_task_group() as leaving:
                for worker in old:
                    leaving.start_soon(it.shut_down, worker)
            await shared(it, *new)
        assert not {owner for owners in watch.owners.values() for owner in owners} & {worker.owner for worker in old}
        assert max(watch.gaps_s) < 0.2
        await nothing_lost_and_nothing_twice(it)


@pytest.mark.usefixtures("slow_turns")
async def test_an_older_revision_keeps_its_shards_beside_a_newer_one_and_takes_none() -> None:
    async with rig(**EIGHT) as it:
        a = await it.owning("a", revision=1)
        b = await it.start("b", revision=2)
        c = await it.start("c", revision=1)
        await pass_time(MIXED_FOR_S / 2)
        assert (len(a.holds), b.holds, c.holds) == (8, set(), set())


@pytest.mark.usefixtures("slow_turns")
async def test_revisions_that_stay_side_by_side_share_in_the_end_and_only_the_newer_gets() -> None:
    async with rig(**EIGHT) as it:
        a = await it.owning("a", revision=1)
        b = await it.start("b", revision=2)
        c = await it.start("c", revision=1)
        await pass_time(MIXED_FOR_S + 60)
        assert (len(a.holds), len(b.holds), len(c.holds)) == (5, 3, 0)


async def test_a_shard_that_nobody_takes_who_should_is_taken_by_anybody() -> None:
    """A newer worker that is ready, and takes nothing: it says so every two seconds."""
    async with rig(**EIGHT) as it:
        phantom = Member(owner=OwnerId("phantom"), task="p", family="worker", revision=9, ready=True, draining=False, shards=0)
        await it.store.membership.announce(phantom, ttl_s=3_600)
        a = await it.start("a")
        await pass_time(UNCLAIMED_S - 1)
        assert a.holds == set()
        await until(lambda: len(a.holds) == 8, within_s=10, what="a has taken all")


async def test_a_killed_workers_shards_go_to_those_that_live() -> None:
    async with rig(*HOOKS, **EIGHT) as it:
        workers = [await it.owning("a")]
        for name in "bc":
            workers.append(await it.start(name))
            await shared(it, *workers, within_s=120)
        a, b, c = workers
        await it.push(a, 20)
        may_repeat = await a.kill()
        await shared(it, b, c, within_s=30)
        await it.push(b, 20)
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert it.duplicates() <= may_repeat


async def test_a_shard_that_does_not_exist_is_never_owned_whoever_offers_it() -> None:
    async with rig(**EIGHT) as it:
        a = await it.owning("a")
        told: list[tuple[str, str, Shard]] = []
        Streams(a, told)
        for number in (-1, 8, 99):
            await it.store.handovers.offer([Shard(number)], giver=OwnerId("nobody"), taker=a.owner, ttl_s=3_600)
        await pass_time(10)
        assert a.holds == {Shard(n) for n in range(8)}
        assert told == []


# -- sessions ------------------------------------------------------------------------------------------------------------


async def test_the_takers_sessions_read_before_the_givers_close_and_own_after_the_grant() -> None:
    async with rig(**EIGHT) as it:
        told: list[tuple[str, str, Shard]] = []
        a = await it.owning("a")
        Streams(a, told)
        b = await it.start("b")
        Streams(b, told, ready_after_s=2.0)
        await shared(it, a, b)
        for shard in b.holds:
            heard = [(name, what) for name, what, which in told if which == shard]
            assert heard[:4] == [("b", "prepare"), ("a", "close"), ("a", "abort"), ("b", "own")]


async def test_a_taker_that_is_never_prepared_gets_nothing_and_is_asked_again_later() -> None:
    async with rig(**EIGHT) as it:
        told: list[tuple[str, str, Shard]] = []
        a = await it.owning("a")
        b = await it.start("b")
        streams = Streams(b, told, ready_after_s=3_600)
        await pass_time(PATIENCE_S - 5)
        asked = [shard for _, what, shard in told if what == "prepare"]
        assert asked
        await pass_time(15)
        assert b.holds == set()
        assert {shard for _, what, shard in told if what == "leave"} == set(asked), "what is not offered any more is left again"
        streams.ready_after_s = 0.5
        await pass_time(ASK_AGAIN_S)
        await shared(it, a, b)


async def test_a_drain_waits_for_its_heirs_sessions_and_not_for_ever() -> None:
    async with rig(*HOOKS, **EIGHT) as it:
        told: list[tuple[str, str, Shard]] = []
        a = await it.owning("a")
        b = await it.start("b", revision=2)
        Streams(a, told)
        Streams(b, told, ready_after_s=4.0)
        await pass_time(3)
        began_s = now_s()
        shutdown = await it.shut_down(a)
        assert 4.0 <= now_s() - began_s < 6
        assert {account.released_to for account in shutdown.accounts.values()} == {b.owner}
        c = await it.start("c", revision=3)
        Streams(c, told, ready_after_s=3_600)
        await pass_time(3)
        began_s = now_s()
        shutdown = await it.shut_down(b)
        assert 10 < now_s() - began_s < 25, "handed over all the same"
        assert {account.released_to for account in shutdown.accounts.values()} == {c.owner}
        await shared(it, c)


# -- what goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(1, 31, 2))
async def test_a_giver_that_loses_the_store_at_any_step_of_a_handover_loses_nothing(k: int) -> None:
    async with rig(*HOOKS, **EIGHT) as it:
        a = await it.owning("a")
        async with under_load(it, every_s=0.05):
            await pass_time(1)
            b = await it.start("b")

            def away() -> None:
                a.faults.away = True

            At(a, k, away)
            await pass_time(4)
            a.faults.away = False
            await pass_time(10)
        await shared(it, a, b, within_s=120)
        it.answer("slow")
        it.answer("failing")
        await it.all_delivered(within_s=120)
        await it.nothing_waits()


@pytest.mark.parametrize("k", range(1, 13))
async def test_a_taker_killed_at_any_step_of_a_handover_loses_nothing(k: int) -> None:
    async with rig(*HOOKS, **EIGHT) as it:
        a = await it.owning("a")
        async with under_load(it, every_s=0.05):
            b = await it.start("b")
            reached = anyio.Event()
            At(b, k, reached.set)
            with anyio.move_on_after(5):
                await reached.wait()
            may_repeat = await b.kill()
            await until(lambda: len(a.holds) == 8, within_s=60, what="a has all again")
        it.answer("slow")
        it.answer("failing")
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert it.duplicates() <= may_repeat


async def test_shards_on_their_way_at_the_signal_are_told_as_released() -> None:
    """Their handover, begun before it, ends while PREPARE waits for it."""
    async with rig(*HOOKS, **EIGHT) as it:
        a = await it.owning("a")
        releasing, may_release = anyio.Event(), anyio.Event()

        async def hold(script: str) -> None:
            if script == "release":
                releasing.set()
                await may_release.wait()

        a.faults.before = hold
        b = await it.start("b")
        await releasing.wait()
        async with anyio.create_task_group() as tasks:

            async def let_go() -> None:
                await until(lambda: a.engine.registry.is_draining, within_s=5, what="the signal has come")
                await pass_time(0.05)
                may_release.set()

            tasks.start_soon(let_go)
            shutdown = await it.shut_down(a)
        accounts = list(shutdown.accounts.values())
        assert {account.released_to for account in accounts} == {b.owner}
        assert balances(ledger(accounts)), ledger(accounts)
        assert shutdown.left_nothing
        await shared(it, b)


@pytest.mark.parametrize("k", range(1, 31, 2))
async def test_a_signal_at_any_step_of_a_live_handover_gives_all_to_the_other_and_balances(k: int) -> None:
    async with rig(*HOOKS, **EIGHT) as it:
        a = await it.owning("a")
        async with under_load(it):
            await pass_time(1)
            b = await it.start("b")
            signal = anyio.Event()
            At(a, k, signal.set)
            with anyio.move_on_after(4):
                await signal.wait()
            shutdown = await it.shut_down(a)
            accounts = list(shutdown.accounts.values())
            assert balances(ledger(accounts)), ledger(accounts)
            assert shutdown.left_nothing
            await shared(it, b)
        await nothing_lost_and_nothing_twice(it)


async def test_a_handed_over_shards_hanging_attempt_goes_on_as_a_claim_of_the_giver() -> None:
    async with rig(webhook("hangs", deadline_s=20.0), **EIGHT) as it:
        a = await it.owning("a")
        it.answer("hangs", Answers(after_s=15.0))
        await it.push(a, 16)
        await pass_time(0.5)
        under_way = len(it.attempts("hangs"))
        b = await it.start("b")
        await shared(it, a, b, within_s=10)
        assert a.engine.pipeline.in_flight == under_way
        it.answer("hangs")
        await it.all_delivered(within_s=200)
        await it.nothing_waits()
        assert it.duplicates() == 0


@pytest.mark.usefixtures("slow_turns")
async def test_a_standby_waits_half_an_hour_for_a_stuck_owner_and_stays_healthy() -> None:
    """The owner is alive, renews, and will not let go: its drain hangs on a store that takes no release from it."""
    async with rig(shards=1, instances=1) as it:
        a = await it.owning("a")
        b = await it.start("b", revision=2)
        it.answer("crm", Hangs())

        async def never_let_go(script: str) -> None:
            if script in {"release", "offer"}:
                await anyio.sleep_forever()

        a.faults.before = never_let_go
        unhealthy = []
        for _ in range(30 * 60):
            await pass_time(1)
            role = b.engine.registry.role()
            if b.is_over or not b.engine.registry.is_ready or role["role"] != "standby":
                unhealthy.append((now_s(), role))
        assert unhealthy == []
        assert len(a.holds) == 1
        await a.kill()
        await until(lambda: len(b.holds) == 1, within_s=30, what="the standby takes over in the end")
