"""Several processes under one parent: what becomes of events when all of them, one of them or the parent ends."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
import pytest

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.e2e.processes_world import Processes, gone
from tests.e2e.rig import Hook, Rig, command_of, declared, everything_arrives, pushing, until
from tests.e2e.test_worker_life import servers_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
INSTANCES = tuple(f"i{n}" for n in range(20))
SHARDS = 16


def hooked(rig: Rig) -> tuple[list[Hook], str]:
    hooks = [Hook("crm", rig.sink.url("crm")), Hook("bi", rig.sink.url("bi"))]
    return hooks, declared(hooks, INSTANCES)


async def all_owned(processes: Processes, within_s: float) -> dict[int, list[int]]:
    with anyio.fail_after(within_s):
        while sum(map(len, (held := await processes.held()).values())) < SHARDS:  # noqa: ASYNC110 - other processes' state
            await anyio.sleep(0.02)
    return held


def ledgers_of(reports: list[dict[str, Any]]) -> dict[str, int]:
    return {key: sum(report["ledger"][key] for report in reports) for key in reports[0]["ledger"]}


async def test_sigterm_drains_all_of_them_at_once_and_the_sum_of_their_reports_balances(rig: Rig) -> None:
    hooks, toml = hooked(rig)
    processes = Processes(rig, toml)
    worker = processes.worker
    await processes.ready()
    gateway = rig.gateway(worker)
    async with pushing(gateway, per_s=scaled(200, 500), instances=INSTANCES):
        await until(lambda: len(rig.sink.got("crm")) > 200, 30, "events arrive")
        code, _ = await worker.stop()
        reports, [total] = worker.lines("drain report"), worker.lines("drain reports, summed")
        await processes.ready()
        await until(lambda: len(gateway.accepted) > 600, 30, "the next life accepts")
    await everything_arrives(rig, gateway, hooks, 30)
    assert code == 0
    assert [report["signals_seen"] for report in reports] == [1, 1]
    assert [report["successor"] for report in reports] == [None, None], "none takes another that leaves too for its successor"
    assert all(report["balances"] for report in reports)
    assert total["ledger"] == ledgers_of(reports)
    assert (total["balances"], total["exit_codes"], total["exit_code"], total["signal"]) == (True, [0, 0], 0, "SIGTERM")
    assert (total["shards_held"], total["shards_released"]) == (SHARDS, SHARDS)
    assert rig.sink.repeated("crm") == rig.sink.repeated("bi") == {}
    state("two processes, sigterm under load", ledger=total["ledger"], phases={p["name"]: p["ms"] for p in total["phases"]})


async def test_none_takes_another_that_has_not_been_told_yet_for_its_successor(rig: Rig) -> None:
    """One hears of it late: the other one waits for it, rather than handing over what it would not take."""
    _, toml = hooked(rig)
    processes = Processes(rig, toml)
    await processes.ready()
    await all_owned(processes, 20)
    late = processes.seats()[1]
    os.kill(late, signal.SIGSTOP)
    processes.worker.send(signal.SIGTERM)
    await anyio.sleep(0.7)
    assert processes.worker.lines("shutdown_phase") == []
    os.kill(late, signal.SIGCONT)
    assert await processes.worker.ended(30) == 0
    assert [report["successor"] for report in processes.worker.lines("drain report")] == [None, None]


async def test_whoever_signals_them_all_by_himself_drains_them_as_one_too(rig: Rig) -> None:
    """As systemd does: the children hear the signal before their parent can say that all leave."""
    _, toml = hooked(rig)
    processes = Processes(rig, toml)
    await processes.ready()
    await all_owned(processes, 20)
    for pid in [*processes.seats().values(), processes.worker.pid]:
        os.kill(pid, signal.SIGTERM)
    assert await processes.worker.ended(30) == 0
    reports = processes.worker.lines("drain report")
    assert [(report["successor"], report["exit_code"]) for report in reports] == [(None, 0)] * 2
    assert processes.worker.lines("process_ended_alone") == []


async def test_one_that_is_killed_is_started_again_and_its_shards_do_not_wait_for_their_leases(rig: Rig) -> None:
    """With leases of a minute: whoever waited for one would be seen."""
    hooks, toml = hooked(rig)
    processes = Processes(rig, toml, REGISTRY__LEASE_TTL_S="60")
    await processes.ready()
    gateway = rig.gateway(processes.worker)
    async with pushing(gateway, per_s=100, instances=INSTANCES):
        held = await all_owned(processes, 20)
        await until(lambda: len(rig.sink.got("crm")) > 100, 30, "events arrive")
        killed = max(held, key=lambda index: len(held[index]))
        before = processes.seats()
        os.kill(before[killed], signal.SIGKILL)
        await until(lambda: processes.seats().get(killed, before[killed]) != before[killed], 30, "it is started again")
        await all_owned(processes, 30)
        accepted = len(gateway.accepted)
        await until(lambda: len(gateway.accepted) > accepted + 100, 30, "events are accepted")
    await everything_arrives(rig, gateway, hooks, 30)
    [told] = processes.worker.lines("process_ended_alone")
    assert (told["process"], told["exit_code"]) == (killed, -9)
    assert processes.seats()[1 - killed] == before[1 - killed], "the other one lives on"
    code, _ = await processes.worker.stop()
    assert code == 0


async def test_one_told_to_go_alone_hands_over_to_its_sibling_and_is_started_again(rig: Rig) -> None:
    hooks, toml = hooked(rig)
    processes = Processes(rig, toml, REGISTRY__LEASE_TTL_S="60")
    await processes.ready()
    gateway = rig.gateway(processes.worker)
    async with pushing(gateway, per_s=100, instances=INSTANCES):
        held = await all_owned(processes, 20)
        leaver = max(held, key=lambda index: len(held[index]))
        pid = processes.seats()[leaver]
        os.kill(pid, signal.SIGTERM)
        await until(lambda: processes.seats().get(leaver, pid) != pid, 40, "it is started again")
        [report] = processes.worker.lines("drain report")
        await all_owned(processes, 30)
    await everything_arrives(rig, gateway, hooks, 30)
    assert report["successor"] is not None
    assert (report["exit_code"], report["balances"]) == (0, True)
    assert gateway.answers.get(503, 0) == 0, "whoever came meanwhile was answered by the one who stayed"
    assert rig.sink.repeated("crm") == {}
    code, _ = await processes.worker.stop()
    assert code == 0


async def test_a_killed_parent_takes_all_with_it_and_the_next_start_serves_at_once(rig: Rig) -> None:
    """With leases of a minute, as above."""
    hooks, toml = hooked(rig)
    processes = Processes(rig, toml, REGISTRY__LEASE_TTL_S="60")
    worker = processes.worker
    await processes.ready()
    gateway = rig.gateway(worker)
    async with pushing(gateway, per_s=100, instances=INSTANCES):
        await all_owned(processes, 20)
        await until(lambda: len(rig.sink.got("crm")) > 100, 30, "events arrive")
        under_it = [*processes.seats().values(), *servers_of(worker)]
        assert len(under_it) == 3
        await worker.kill()
        gone_s = await gone(under_it)
        await processes.ready()
        await all_owned(processes, 20)
    await everything_arrives(rig, gateway, hooks, 30)
    state("start after sigkill of the parent", all_gone_s=gone_s)
    code, _ = await worker.stop()
    assert code == 0


async def test_one_that_keeps_dying_does_not_take_the_other_one_down(rig: Rig) -> None:
    hooks, toml = hooked(rig)
    processes = Processes(rig, toml, REGISTRY__LEASE_TTL_S="60")
    await processes.ready()
    gateway = rig.gateway(processes.worker)
    stays = processes.seats()[0]
    async with pushing(gateway, per_s=50, instances=INSTANCES):
        for _ in range(scaled(3, 8)):
            victim = processes.seats()[1]
            os.kill(victim, signal.SIGKILL)
            await until(lambda gone=victim: processes.seats().get(1, gone) != gone, 60, "it is started again")  # type: ignore[misc]
    await everything_arrives(rig, gateway, hooks, 40)
    assert processes.seats()[0] == stays
    assert command_of(stays)
    assert len(processes.worker.lines("process_ended_alone")) == scaled(3, 8)


@pytest.mark.slow
async def test_one_that_is_stuck_is_killed_and_started_again_though_its_sibling_answers_for_both(rig: Rig) -> None:
    _, toml = hooked(rig)
    processes = Processes(rig, toml)
    await processes.ready()
    stuck = processes.seats()[1]
    os.kill(stuck, signal.SIGSTOP)
    await until(lambda: processes.seats().get(1, stuck) != stuck, 90, "it is started again")
    assert [line["process"] for line in processes.worker.lines("process_stuck")] == [1]
    await all_owned(processes, 30)
    code, _ = await processes.worker.stop()
    assert code == 0


async def test_each_says_which_process_it_is_where_it_is_asked_on_its_own_port(rig: Rig) -> None:
    _, toml = hooked(rig)
    processes = Processes(rig, toml)
    await processes.ready()
    shown = [(await processes.page(index, "/status"))["process"] for index in range(2)]
    seats = {page["index"]: page["pid"] for page in shown}
    assert seats == processes.seats()
    assert [page["of"] for page in shown] == [2, 2]
    assert (await processes.worker.status())["process"]["pid"] in seats.values()
    code, _ = await processes.worker.stop()
    assert code == 0
