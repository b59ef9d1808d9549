"""Nobody waits for a stranger: webhooks that hang and fail, more of them than there are slots, beside healthy ones."""

from __future__ import annotations

import os
import statistics
import time
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from tests.conftest import CHAOS, scaled
from tests.e2e.figures import state
from tests.e2e.rig import Gateway, Hook, Rig, declared, everything_arrives, percentile, pushing, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(scaled(150, 3600))]

WEBHOOKS, HANGING, FAILING = scaled(60, 300), scaled(12, 60), scaled(6, 30)
MAX_IN_FLIGHT = scaled(20, 100)
PER_S = scaled(120, 500)
SLICE_S = scaled(3, 30)
PAIRS = scaled(2, 6)
WARM_S = 1.0
BUDGET_S = 25


def webhooks(rig: Rig) -> list[Hook]:
    """Each with an instance of its own, so that an event goes to one webhook; the bad ones first."""
    modes = ["hang"] * HANGING + ["500"] * FAILING + ["ok"] * (WEBHOOKS - HANGING - FAILING)
    return [Hook(f"h{n}", rig.sink.url(f"h{n}", mode), (f"i{n}",), deadline_s=scaled(3, 10)) for n, mode in enumerate(modes)]


def stolen_cpu_s() -> float:
    """CPU time that the host has taken from this machine since it started: what a p99 here says depends on it (proc(5), `steal`)."""
    return int(Path("/proc/stat").read_text(encoding="ascii").split()[8]) / os.sysconf("SC_CLK_TCK")


async def latencies(rig: Rig, gateway: Gateway, instances: list[str], healthy: list[Hook]) -> list[float]:
    """One slice: from the push of each event to its arrival, of the healthy webhooks only."""
    began_s = time.monotonic()
    async with pushing(gateway, PER_S, instances):
        await anyio.sleep(SLICE_S)
    of = {instance: hook.name for hook in healthy for instance in hook.instances}
    mine = {event: of[gateway.instance_of[event]] for event in gateway.accepted if gateway.instance_of[event] in of}
    await until(lambda: all(event in rig.sink.arrivals[name] for event, name in mine.items()), 30, "the healthy got all of theirs")
    pushed = {event: gateway.pushed_at_s[event] for event in mine if gateway.pushed_at_s[event] > began_s + WARM_S}
    return [rig.sink.arrivals[mine[event]][event][0].at_s - at_s for event, at_s in pushed.items()]


async def test_webhooks_that_hang_and_fail_do_not_slow_the_healthy(rig: Rig) -> None:
    hooks = webhooks(rig)
    healthy = hooks[HANGING + FAILING :]
    everyone, the_healthy = ([name for hook in some for name in hook.instances] for some in (hooks, healthy))
    worker = rig.worker(declared(hooks, everyone), DELIVERY__MAX_IN_FLIGHT=str(MAX_IN_FLIGHT))
    await worker.start()
    gateway = rig.gateway(worker)
    await latencies(rig, gateway, everyone, healthy)  # the first connections are not what is asked here
    without, beside, pairs = list[float](), list[float](), list[str]()
    ratios = list[float]()
    for _ in range(PAIRS):
        stolen_s = [stolen_cpu_s()]
        quiet = await latencies(rig, gateway, the_healthy, healthy)
        stolen_s.append(stolen_cpu_s())
        loud = await latencies(rig, gateway, everyone, healthy)
        stolen_s.append(stolen_cpu_s())
        of_quiet, of_loud = percentile(quiet, 0.99), percentile(loud, 0.99)
        ratios.append(of_loud / of_quiet)
        taken = [after_s - before_s for before_s, after_s in pairwise(stolen_s)]
        pairs.append(f"{of_quiet * 1000:.0f} ms ({taken[0]:.1f} s stolen) → {of_loud * 1000:.0f} ms ({taken[1]:.1f} s stolen)")
        without += quiet
        beside += loud
    ratio = statistics.median(ratios)
    hung = sum(rig.sink.in_flight[hook.name] for hook in hooks[:HANGING])
    state(
        "isolation",
        webhooks=WEBHOOKS,
        hanging=HANGING,
        failing=FAILING,
        events=len(gateway.accepted),
        p50_without_ms=percentile(without, 0.5) * 1000,
        p50_beside_ms=percentile(beside, 0.5) * 1000,
        p99_without_ms=percentile(without, 0.99) * 1000,
        p99_beside_ms=percentile(beside, 0.99) * 1000,
        ratio=ratio,
        p99_of_pairs=pairs,
        hung_now=hung,
    )
    # In the short form a p99 is that of a few hundred events on a shared machine; that none of the hung holds the healthy for a deadline
    # is what it can tell.
    assert ratio <= (1.2 if CHAOS else 5) or (not CHAOS and percentile(beside, 0.99) < 0.1)
    assert hung <= MAX_IN_FLIGHT // 2, "the hanging share"
    assert not any(rig.sink.repeated(hook.name) for hook in healthy)


async def test_a_drain_at_full_speed_beside_them_loses_and_repeats_nothing(rig: Rig) -> None:
    hooks = webhooks(rig)
    instances = [name for hook in hooks for name in hook.instances]
    worker = rig.worker(declared(hooks, instances), DELIVERY__MAX_IN_FLIGHT=str(MAX_IN_FLIGHT))
    await worker.start()
    gateway = rig.gateway(worker)
    count = scaled(2_000, 20_000)
    async with anyio.create_task_group() as group:
        group.start_soon(gateway.push_many, count, instances)
        await until(lambda: len(gateway.accepted) > count // 2, 120, "half of them accepted")
        code, took_s = await worker.stop()
        report = worker.report()
        await worker.start()
    healed_s = await everything_arrives(rig, gateway, hooks, scaled(60, 300))
    repeated = sum(len(rig.sink.repeated(hook.name)) for hook in hooks)
    figures = {"accepted": len(gateway.accepted), "lost": 0, "duplicates": repeated, "shutdown_s": took_s, "exit_code": code}
    state("drain at full speed", **figures, spilled=report["spilled"], ledger=report["ledger"], healed_s=healed_s)
    assert code in {0, 75}
    assert report["balances"]
    assert took_s < BUDGET_S
    assert repeated == 0
