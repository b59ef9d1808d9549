"""SIGTERM at every step: nothing lost, nothing stuck, the ledger balances; with a successor not one duplicate and no gap."""

from __future__ import annotations

import anyio
import pytest

from tests.component.rig import NEWEST, Rig, Worker, now_s, pass_time, rig, until, webhook
from tests.component.steps import At
from worker.adapters.memory_faults import StoreFaults
from worker.adapters.memory_transport import Answers, Hangs
from worker.domain.errors import StoreUnavailable
from worker.domain.ids import InstanceId, Shard
from worker.drain_report import balances, ledger
from worker.shutdown import Shutdown

pytestmark = pytest.mark.anyio

STEPS = range(1, 25)
"""Calls to the store before the signal comes."""


def sums(shutdown: Shutdown) -> dict[str, int]:
    return ledger(list(shutdown.accounts.values()))


async def signal_at(it: Rig, worker: Worker, k: int) -> Shutdown:
    """Events of mixed fate; the signal comes at the worker's k-th call to the store from here."""
    signal = anyio.Event()
    At(worker, k, signal.set)
    async with anyio.create_task_group() as pushing:
        pushing.start_soon(it.push, worker, 12)
        with anyio.move_on_after(2):
            await signal.wait()
        shutdown = await it.shut_down(worker)
    return shutdown  # noqa: RET504 -- a task group may swallow, says the type checker


def mixed(it: Rig) -> None:
    it.answer("slow", Answers(after_s=0.7))
    it.answer("failing", Answers(status=500), Answers(), Answers(status=503))


HOOKS = (webhook("quick"), webhook("slow"), webhook("failing"))


@pytest.mark.parametrize("k", STEPS)
async def test_a_signal_at_any_step_loses_nothing_and_balances(k: int) -> None:
    async with rig(*HOOKS) as it:
        a = await it.owning()
        mixed(it)
        shutdown = await signal_at(it, a, k)
        assert balances(sums(shutdown)), sums(shutdown)
        assert min(sums(shutdown).values()) >= 0, sums(shutdown)
        assert shutdown.left_nothing
        it.answer("slow")
        it.answer("failing")
        await it.owning("b")
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert it.duplicates() == 0


@pytest.mark.parametrize("k", STEPS)
async def test_with_a_ready_successor_nothing_comes_twice_and_every_shard_goes_to_it(k: int) -> None:
    async with rig(*HOOKS) as it:
        a = await it.owning()
        b = await it.start("b", revision=2)
        mixed(it)
        shutdown = await signal_at(it, a, k)
        assert shutdown.successor is not None
        assert balances(sums(shutdown)), sums(shutdown)
        assert {account.released_to for account in shutdown.accounts.values()} == {b.owner}
        assert len(shutdown.accounts) == it.shards
        await until(lambda: len(b.holds) == it.shards, within_s=1, what="b holds all")
        it.answer("slow")
        it.answer("failing")
        await it.push(b, 4)
        await it.all_delivered(within_s=120)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_a_handed_over_shard_is_without_an_owner_for_moments_only() -> None:
    async with rig(*HOOKS) as it:
        a = await it.owning()
        b = await it.start("b", revision=2)
        mixed(it)
        await it.push(a, 40)
        shutdown = await it.shut_down(a)
        released_s = {
            account.shard: shutdown.deadline.at_s - 110 + (account.held_after_signal_ms or 0) / 1000
            for account in shutdown.accounts.values()
        }
        await until(lambda: len(b.holds) == it.shards, within_s=1, what="b holds all")
        for tenure in b.engine.registry.active():
            assert tenure.granted_at_s - released_s[tenure.shard] < 0.1
        it.answer("slow")
        it.answer("failing")
        await it.all_delivered()
        assert it.duplicates() == 0


async def test_while_one_shard_is_handed_over_none_of_its_waiting_deliveries_starts() -> None:
    """An attempt that began beside the claims being written would be nobody's claim, and come twice."""
    async with rig(webhook("slow"), shards=1, instances=1) as it:
        a = await it.owning()
        await it.start("b", revision=2)
        it.answer("slow", Answers(after_s=0.05))
        await it.push(a, 30)

        async def slowly(script: str) -> None:
            if script == "park":
                await pass_time(0.3)

        a.faults.before = slowly
        await it.shut_down(a)
        await it.all_delivered()
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_a_hanging_webhook_does_not_hold_up_the_drain_and_gets_its_event_later() -> None:
    async with rig(webhook("quick"), webhook("hangs", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("hangs", Hangs())
        await it.push(a, 10)
        await pass_time(3)
        began_s = now_s()
        shutdown = await it.shut_down(a)
        drained = next(phase for phase in shutdown.phases if phase.name == "drain")
        assert drained.ms < 1_500
        assert now_s() - began_s < 40
        assert balances(sums(shutdown)), sums(shutdown)
        it.answer("hangs")
        await it.owning("b")
        await it.all_delivered(within_s=200)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_what_waited_for_a_retry_at_the_signal_is_told() -> None:
    """It is no event of the ledger: it left the journal when it was parked."""
    async with rig(webhook("failing")) as it:
        a = await it.owning()
        it.answer("failing", Answers(status=500))
        await it.push(a, 4)
        await until(lambda: a.engine.retry_pump.depth == 4, within_s=30, what="all four are parked and seen")
        shutdown = await it.shut_down(a)
        assert shutdown.at_signal["retry_queue"] == 4
        assert set(sums(shutdown).values()) == {0}


async def test_what_cannot_be_delivered_in_time_is_durable_and_comes_after_the_restart() -> None:
    async with rig(webhook("slow", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=1.5))
        await it.push(a, 100)
        shutdown = await it.shut_down(a, budget_s=9)
        assert balances(sums(shutdown)), sums(shutdown)
        assert sums(shutdown)["in_journal"] > 50
        it.answer("slow")
        await it.owning("b")
        await it.all_delivered(within_s=200)
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_what_is_pushed_during_a_drain_is_journalled_and_delivered_by_the_next() -> None:
    async with rig(webhook("slow", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=1.0))
        await it.push(a, 10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.shut_down, a)
            await pass_time(1.5)
            replies = await it.push(a, 5)
            assert {reply.status for reply in replies} == {202}
            assert {reply.headers["Connection"] for reply in replies} == {"close"}
        it.answer("slow")
        await it.owning("b")
        await it.all_delivered()
        await it.nothing_waits()
        assert it.duplicates() == 0


async def test_a_checkpoint_whose_answer_was_lost_does_not_hide_what_came_after_it() -> None:
    """The one in doubt is repeated, and then what is newer is saved too: the next to save may be the last before the release."""
    async with rig(shards=1, instances=1) as it:
        a = await it.owning()
        [tenure] = a.engine.registry.active()
        await it.push(a, 3)
        await it.all_delivered(within_s=0.2)
        a.faults.lose_next_answers(1)
        with pytest.raises(StoreUnavailable):
            await a.engine.checkpointer.save(tenure)
        await it.push(a, 3)
        await it.all_delivered(within_s=0.2)
        await a.engine.checkpointer.save(tenure)
        progress = await it.store.checkpoints.load(Shard(0), NEWEST)
        assert progress.prefix == progress.tail == 7


async def test_a_shard_granted_while_the_worker_leaves_is_given_back_at_once() -> None:
    async with rig(shards=2) as it:

        async def slowly(script: str) -> None:
            if script == "load":
                await pass_time(0.5)

        def prepare(faults: StoreFaults) -> None:
            faults.before = slowly

        a = await it.start(prepare=prepare)
        await pass_time(0.1)
        shutdown = await it.shut_down(a)
        await pass_time(1)
        assert shutdown.left_nothing
        assert await it.store.leases.holders([Shard(0), Shard(1)]) == {}


@pytest.mark.parametrize("gone_after_s", [0.0, 0.02, 0.5])
async def test_a_store_that_goes_away_while_draining_ends_in_time_and_loses_nothing(gone_after_s: float) -> None:
    async with rig(*HOOKS, shards=8, instances=8) as it:
        a = await it.owning()
        mixed(it)
        await it.push(a, 40)
        async with anyio.create_task_group() as tasks:

            async def lose_the_store() -> None:
                await pass_time(gone_after_s)
                a.faults.away = True

            tasks.start_soon(lose_the_store)
            began_s = now_s()
            shutdown = await it.shut_down(a, budget_s=30)
            assert now_s() - began_s <= 31
        assert not shutdown.left_nothing
        assert balances(sums(shutdown)), sums(shutdown)
        assert min(sums(shutdown).values()) >= 0, sums(shutdown)
        it.answer("slow")
        it.answer("failing")
        await it.owning("b")
        await it.all_delivered(within_s=200)
        await it.nothing_waits()


async def test_a_store_that_answers_slowly_cannot_bring_the_teardown_before_the_drain() -> None:
    """Each shard may wait two seconds for its claims; sixteen one after the other would outlast the phase."""
    hooks = [webhook(f"w{n}", deadline_s=30.0, instance_ids=frozenset({InstanceId(f"i{n}")})) for n in range(64)]
    async with rig(*hooks, shards=16, instances=64) as it:
        a = await it.owning()
        for n in range(64):
            it.answer(f"w{n}", Hangs())
        await it.push(a, 64)
        await pass_time(0.5)
        assert len({attempt.delivery.event.tenure.shard for attempt in a.engine.under_way}) == 16

        async def slowly(script: str) -> None:
            if script == "park":
                await pass_time(1.9)

        a.faults.before = slowly
        shutdown = await it.shut_down(a, budget_s=60)
        assert [phase.name for phase in shutdown.phases][-3:] == ["teardown", "handover", "exit"]
        assert not any(phase.cut for phase in shutdown.phases if phase.name == "spill")
        assert balances(sums(shutdown)), sums(shutdown)


async def test_a_signal_during_the_start_ends_at_once() -> None:
    async with rig() as it:
        a = await it.start()
        began_s = now_s()
        shutdown = await it.shut_down(a)
        assert now_s() - began_s < 1
        assert shutdown.left_nothing


async def test_a_second_later_signal_skips_to_spilling() -> None:
    async with rig(webhook("slow", deadline_s=30.0)) as it:
        a = await it.owning()
        it.answer("slow", Answers(after_s=2))
        await it.push(a, 50)
        began_s = now_s()
        shutdown = await it.shut_down(a, spill=lambda: now_s() - began_s > 6)
        assert next(phase for phase in shutdown.phases if phase.name == "drain").ms < 7_000
        assert balances(sums(shutdown)), sums(shutdown)
        it.answer("slow")
        await it.owning("b")
        await it.all_delivered(within_s=200)
        await it.nothing_waits()
