"""Streams of gateways through whole workers in virtual time: over reconnects, handovers, drains and crashes nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from tests.component.rig import Rig, pass_time, rig, until
from tests.component.sockets_world import forgets, keeps_events
from worker.adapters.memory_sockets import MemoryGateway
from worker.adapters.memory_transport import Answers
from worker.domain.ids import InstanceId, shard_of
from worker.drain_report import balances, ledger
from worker.websocket.port import CloseReason

pytestmark = pytest.mark.anyio

INSTANCES = 12


async def all_read(gateway: MemoryGateway, instances: int = INSTANCES) -> None:
    await until(lambda: all(gateway.reading(f"phone-{n}") for n in range(instances)), within_s=60, what="all are read")


async def tell_for_ever(it: Rig, every_s: float = 0.02) -> None:
    while True:
        it.tell()
        await pass_time(every_s)


async def settled(it: Rig) -> None:
    """Everything accepted is delivered, nothing waits, nothing came twice."""
    await it.all_delivered()
    await it.nothing_waits()
    assert it.duplicates() == 0


async def test_what_a_gateway_tells_its_readers_is_delivered() -> None:
    gateway = forgets()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        await it.owning()
        await all_read(gateway)
        assert it.tell(120) == 120
        await settled(it)


async def test_every_event_gets_its_receipt() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        worker = await it.owning()
        it.tell(120)
        await settled(it)
        await until(lambda: len(gateway.receipts) == 120, within_s=5, what="all receipts")
        assert worker.engine.streams.sessions.receipts.sent == 120


@pytest.mark.parametrize("make", [forgets, keeps_events])
async def test_cut_again_and_again_a_stream_loses_nothing_that_anybody_read(make: Callable[[], MemoryGateway]) -> None:
    gateway = make()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        await it.owning()
        await all_read(gateway)
        async with anyio.create_task_group() as telling:
            telling.start_soon(tell_for_ever, it, 0.2)
            for reason in (CloseReason.BROKEN, CloseReason.SERVER_LEFT, CloseReason.TIMEOUT, CloseReason.PROTOCOL) * 2:
                await pass_time(0.37)
                gateway.drop(reason)
                await all_read(gateway)
            telling.cancel_scope.cancel()
        await settled(it)


# -- drains ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [forgets, keeps_events])
async def test_alone_a_drain_reads_on_until_the_sockets_are_closed_and_the_ledger_balances(make: Callable[[], MemoryGateway]) -> None:
    gateway = make()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        worker = await it.owning()
        await all_read(gateway)
        async with anyio.create_task_group() as telling:
            telling.start_soon(tell_for_ever, it)
            await pass_time(1)
            it.answer("crm", Answers(after_s=0.5))
            await pass_time(0.3)
            shutdown = await it.shut_down(worker)
            it.answer("crm")
            telling.cancel_scope.cancel()
        assert shutdown.left_nothing
        sums = ledger(list(shutdown.accounts.values()))
        assert balances(sums)
        assert worker.engine.streams.sessions.undurable() == []
        assert not any(gateway.reading(f"phone-{n}") for n in range(INSTANCES))
        texts = len(it.accepted)
        assert sums["appended"] > 0
        await it.owning("b")
        await settled(it)
        assert len(it.accepted) == texts


async def test_what_comes_during_a_drain_is_journalled_and_receipted() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=4) as it:
        worker = await it.owning()
        await all_read(gateway, 4)
        it.tell(8)
        shutdown = worker.engine.shutdown(signal_at_s=0.0, budget_s=1e6, spill_asked=lambda: False)
        shutdown._quiesce()  # noqa: SLF001 -- the phase of a drain alone in which nothing is read from the journal
        it.tell(8)
        await until(lambda: len(gateway.receipts) == 16, within_s=10, what="receipts of all")
        worker.engine.reader.is_stopped = False
        worker.engine.reader.poke()
        await settled(it)


async def test_a_worker_that_leaves_to_a_successor_loses_nothing_and_leaves_no_moment_unread() -> None:
    gateway = forgets()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        first = await it.owning("a")
        await all_read(gateway)
        unread = 0
        async with anyio.create_task_group() as telling:

            async def tell() -> None:
                nonlocal unread
                while True:
                    unread += 1 - it.tell()
                    await pass_time(0.005)

            telling.start_soon(tell)
            await pass_time(0.5)
            second = await it.start("b", revision=2)
            await pass_time(3)
            shutdown = await it.shut_down(first)
            await until(lambda: len(second.holds) == it.shards, within_s=30, what="all is taken over")
            await pass_time(1)
            telling.cancel_scope.cancel()
        assert shutdown.left_nothing
        assert balances(ledger(list(shutdown.accounts.values())))
        assert unread == 0
        await settled(it)
        assert sum(gateway.reading(f"phone-{n}") for n in range(INSTANCES)) == INSTANCES


async def test_receipts_owed_at_a_handover_are_sent_by_whoever_reads_next() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        first = await it.owning("a")
        await all_read(gateway)
        async with anyio.create_task_group() as telling:
            telling.start_soon(tell_for_ever, it)
            for name in ("b", "c", "d"):
                await pass_time(0.5)
                second = await it.start(name, revision=len(it.workers) + 1)
                await pass_time(3)
                await it.shut_down(first)
                await until(lambda second=second: len(second.holds) == it.shards, within_s=60, what="taken over")  # type: ignore[misc]
                first = second
            telling.cancel_scope.cancel()
        await settled(it)
        kept = [one for events in gateway.kept.values() for one in events]
        await until(lambda: all(one.is_acknowledged for one in kept), within_s=60, what="a receipt for each")


async def test_only_the_owner_sends_receipts() -> None:
    """Asked at each receipt, of all workers: whoever sends it holds the shard."""
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        wrong: list[tuple[str, str]] = []

        def look(by: str, name: str) -> None:
            shard = shard_of(InstanceId(f"i{name.removeprefix('phone-')}"), it.shards)
            if not any(worker.name == by and shard in worker.holds for worker in it.workers):
                wrong.append((by, name))

        gateway.on_receipt = look
        first = await it.owning("a")
        async with anyio.create_task_group() as telling:
            telling.start_soon(tell_for_ever, it)
            second = await it.start("b", revision=2)
            await pass_time(5)
            await it.shut_down(first)
            await until(lambda: len(second.holds) == it.shards, within_s=60, what="taken over")
            telling.cancel_scope.cancel()
        await settled(it)
        assert {by for by, _ in gateway.receipts} == {"a", "b"}
        assert wrong == []


# -- crashes -----------------------------------------------------------------------------------------------------------


async def test_after_a_crash_a_gateway_that_keeps_its_events_has_lost_none() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        first = await it.owning("a")
        await all_read(gateway)
        async with anyio.create_task_group() as telling:
            telling.start_soon(tell_for_ever, it)
            await pass_time(1)
            await first.kill()
            await it.owning("b")
            await pass_time(1)
            telling.cancel_scope.cancel()
        await it.all_delivered()
        await it.nothing_waits()
        kept = [one for events in gateway.kept.values() for one in events]
        await until(lambda: all(one.is_acknowledged for one in kept), within_s=60, what="a receipt for each")


async def test_without_its_store_a_worker_reads_nothing_and_goes_on_where_it_was() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        worker = await it.owning("a")
        await all_read(gateway)
        it.tell(24)
        worker.faults.away = True
        it.tell(24)
        await until(lambda: not any(gateway.reading(f"phone-{n}") for n in range(INSTANCES)), within_s=30, what="the streams are left")
        it.tell(24)
        await pass_time(60)
        worker.faults.away = False
        await all_read(gateway)
        it.tell(24)
        await settled(it)


async def test_metrics_and_status_show_the_streams() -> None:
    gateway = forgets()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        worker = await it.owning()
        await all_read(gateway)
        it.tell(1)
        gateway.drop()
        await all_read(gateway)
        await pass_time(1)
        shown = worker.engine.metrics.text()
        assert f'websocket_connected{{gateway="generic"}} {INSTANCES}' in shown
        assert f'websocket_reconnects_total{{gateway="generic",reason="broken"}} {INSTANCES}' in shown
        assert 'websocket_last_event_age_seconds{gateway="generic"}' in shown
        sockets = worker.engine.statistics()["sockets"]
        assert (sockets["connected"], sockets["waiting"], sockets["silent"], sockets["gaps"]["count"]) == (INSTANCES, 0, 0, INSTANCES)


async def test_a_gateway_whose_streams_hang_at_the_end_costs_no_shard_its_release() -> None:
    gateway = keeps_events()
    async with rig(gateway=gateway, instances=INSTANCES) as it:
        worker = await it.owning()
        await all_read(gateway)
        it.tell(24)
        await settled(it)
        worker.engine.streams.sessions.leave = lambda _instance_ids: None  # type: ignore[method-assign, assignment]  # nobody hears our goodbye
        shutdown = await it.shut_down(worker, budget_s=15)
        assert shutdown.left_nothing
        assert not any(gateway.reading(f"phone-{n}") for n in range(INSTANCES))
