"""Who is leaving looks for those that stay, also through a store that is away just then: company unknown is not nobody."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.component.rig import Rig, Worker, now_s, pass_time, rig, until, webhook
from worker.client_registry.presence import HEARTBEAT_TTL_S
from worker.drain_report import balances, ledger
from worker.shutdown import Shutdown

pytestmark = pytest.mark.anyio

EIGHT: dict[str, Any] = {"shards": 8, "instances": 16}


async def pair(it: Rig) -> tuple[Worker, Worker]:
    """One that holds everything and leaves, and a newer one that stays."""
    leaving, staying = await it.owning("a"), await it.start("b", revision=2)
    await pass_time(5)
    return leaving, staying


async def shut_down_without_store(it: Rig, leaving: Worker, *, away_s: float, hangs: bool = False, push_to: Worker) -> Shutdown:
    """Its line to the store is away from the signal on, for so long; events go on coming in at the other."""
    done: list[Shutdown] = []

    async def shut_down() -> None:
        done.append(await it.shut_down(leaving))

    async def push() -> None:
        while not done:
            await it.push(push_to)
            await pass_time(0.05)

    cut(leaving, hangs=hangs)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shut_down)
        tasks.start_soon(push)
        await pass_time(away_s)
        mend(leaving)
    return done[0]


def cut(worker: Worker, *, hangs: bool = False) -> None:
    if hangs:
        worker.faults.stall()
    worker.faults.away = not hangs


def mend(worker: Worker) -> None:
    worker.faults.away = worker.is_over
    worker.faults.resume()


async def all_went_to(it: Rig, shutdown: Shutdown, heir: Worker) -> None:
    accounts = list(shutdown.accounts.values())
    assert {account.released_to for account in accounts} == {heir.owner}
    assert shutdown.successor is not None
    assert shutdown.successor.owner == heir.owner
    assert balances(ledger(accounts)), ledger(accounts)
    assert shutdown.left_nothing
    await it.all_delivered()
    await it.nothing_waits()
    assert it.duplicates() == 0


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
@pytest.mark.parametrize("away_s", [0.2, 1.5, 5.0])
async def test_a_store_that_is_away_at_the_signal_does_not_make_a_worker_leave_as_if_alone(away_s: float, hangs: bool) -> None:
    async with rig(**EIGHT) as it:
        a, b = await pair(it)
        shutdown = await shut_down_without_store(it, a, away_s=away_s, hangs=hangs, push_to=b)
        await all_went_to(it, shutdown, b)
        assert shutdown.rotation.reason == "deployment"


async def test_meanwhile_the_journal_is_read_and_delivered_as_ever() -> None:
    async with rig(**EIGHT) as it:
        a, b = await pair(it)
        a.faults.away = True
        async with anyio.create_task_group() as tasks:

            async def only_the_store_of_leases_is_away(script: str) -> None:
                a.faults.away = script in {"announce", "live", "holders"} and now_s() < back_at_s

            back_at_s = now_s() + 4
            a.faults.before = only_the_store_of_leases_is_away
            tasks.start_soon(it.shut_down, a)
            await pass_time(2)
            await it.push(b, 32)
            await it.all_delivered(within_s=1.5)
            assert b.holds == set()
        await until(lambda: len(b.holds) == 8, within_s=10, what="b has all")
        assert it.duplicates() == 0


async def test_a_company_that_stays_unknown_is_nobody_once_a_third_of_the_drain_is_over() -> None:
    async with rig(**EIGHT) as it:
        a, b = await pair(it)
        began_s = now_s()
        shutdown = await shut_down_without_store(it, a, away_s=100, push_to=b)
        assert now_s() - began_s <= 111
        assert {account.released_to for account in shutdown.accounts.values()} == {None}
        assert not shutdown.left_nothing
        assert balances(ledger(list(shutdown.accounts.values())))
        assert next(phase.ms for phase in shutdown.phases if phase.name == "drain") < 21_000
        await until(lambda: len(b.holds) == 8, within_s=40, what="b has all")
        await it.all_delivered()
        await it.nothing_waits()


async def test_who_could_not_announce_itself_while_the_store_was_away_is_waited_for() -> None:
    """Away for both, and for longer than announcements live: the first look after it finds nobody, which says nothing."""
    async with rig(**EIGHT) as it:
        a, b = await pair(it)
        cut(b)
        async with anyio.create_task_group() as tasks:

            async def mend_b() -> None:
                await pass_time(HEARTBEAT_TTL_S + 2)
                mend(b)

            tasks.start_soon(mend_b)
            shutdown = await shut_down_without_store(it, a, away_s=HEARTBEAT_TTL_S + 1, push_to=b)
        await all_went_to(it, shutdown, b)


async def test_a_store_that_was_away_for_all_until_the_signal_hides_nobody() -> None:
    async with rig(**EIGHT) as it:
        a, b = await pair(it)
        cut(a)
        cut(b)
        await pass_time(HEARTBEAT_TTL_S + 1)
        mend(a)
        shutting_down = []
        async with anyio.create_task_group() as tasks:

            async def shut_down() -> None:
                shutting_down.append(await it.shut_down(a))

            tasks.start_soon(shut_down)
            await pass_time(0.5)
            mend(b)
        await all_went_to(it, shutting_down[0], b)


async def test_an_heir_that_a_store_away_in_mid_drain_hid_stays_one() -> None:
    async with rig(webhook("crm", deadline_s=30.0), **EIGHT) as it:
        a, b = await pair(it)

        async def never_prepared(script: str) -> None:
            if script == "prepared":
                await anyio.sleep_forever()

        b.faults.before = never_prepared
        done: list[Shutdown] = []
        async with anyio.create_task_group() as tasks:

            async def shut_down() -> None:
                done.append(await it.shut_down(a))

            tasks.start_soon(shut_down)
            await pass_time(1.5)
            cut(a)
            cut(b)
            await pass_time(HEARTBEAT_TTL_S + 1)
            mend(a)
            await pass_time(1)
            mend(b)
        await all_went_to(it, done[0], b)


async def test_who_is_really_alone_leaves_at_once() -> None:
    async with rig(**EIGHT) as it:
        a = await it.owning()
        await pass_time(5)
        began_s = now_s()
        shutdown = await it.shut_down(a)
        assert now_s() - began_s < 1
        assert shutdown.left_nothing
