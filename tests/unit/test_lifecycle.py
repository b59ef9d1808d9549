"""The rules of lifecycle that need no process: what a signal asks for, which tasks are named, how late the loop runs."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys

import anyio
import pytest

from worker.lifecycle import IGNORED_FOR_S, Reaction, Signals, Watchdog, calm_collector, raise_open_files, reaction, stuck_tasks
from worker.loop_lag import LoopLag


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("since_first_s", "asked"),
    [(None, Reaction.DRAIN), (0.0, Reaction.IGNORE), (IGNORED_FOR_S - 0.001, Reaction.IGNORE), (IGNORED_FOR_S, Reaction.SPILL)],
)
def test_the_first_drains_a_repeat_is_ignored_a_later_one_spills(signum: int, since_first_s: float | None, asked: Reaction) -> None:
    assert reaction(signum, since_first_s) is asked


@pytest.mark.parametrize("since_first_s", [None, 0.0, 60.0])
def test_sigquit_always_spills(since_first_s: float | None) -> None:
    assert reaction(signal.SIGQUIT, since_first_s) is Reaction.SPILL


@pytest.mark.anyio
async def test_a_signal_that_came_before_the_loop_is_there_when_it_attaches() -> None:
    signals = Signals(Watchdog())
    try:
        signals.record(signal.SIGTERM)
        signals.record(signal.SIGTERM)
        signals.attach(asyncio.get_running_loop())
        with anyio.fail_after(1):
            await signals.wait_first()
        assert (signals.name, signals.seen, signals.watchdog.is_armed) == ("SIGTERM", 2, True)
    finally:
        signals.watchdog.disarm()
    assert not signals.watchdog.is_armed


@pytest.mark.anyio
async def test_waiting_before_attaching_is_a_mistake_that_is_told() -> None:
    with pytest.raises(RuntimeError, match="attach"):
        await Signals(Watchdog()).wait_first()


@pytest.mark.anyio
async def test_a_stuck_task_is_named_with_the_place_where_it_really_waits() -> None:
    started = anyio.Event()

    async def inner() -> None:
        started.set()
        await anyio.sleep_forever()

    async def outer() -> None:
        await inner()

    async with anyio.create_task_group() as group:
        group.start_soon(outer, name="the delivery to crm")
        await started.wait()
        stuck = {entry["task"]: entry["state"] for entry in stuck_tasks(asyncio.get_running_loop())}
        group.cancel_scope.cancel()
    assert "sleep_forever" in stuck["the delivery to crm"] or "sleep" in stuck["the delivery to crm"]


def test_open_files_are_raised_to_the_hard_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert raise_open_files() == (256, wanted if hard != resource.RLIM_INFINITY else 10_240)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_arming_needs_nothing_heavy() -> None:
    import subprocess

    code = "import sys, worker.lifecycle; print(sorted({'asyncio', 'anyio', 'aiohttp', 'structlog', 'datetime'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.anyio
async def test_a_loop_that_was_held_up_shows_its_worst_delay() -> None:
    lag = LoopLag()
    async with anyio.create_task_group() as group:
        group.start_soon(lag.measure)
        await anyio.wait_all_tasks_blocked()
        end_s = anyio.current_time() + 0.25
        while anyio.current_time() < end_s:
            pass
        while lag.worst_s == 0.0:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert 0.1 < lag.worst_s < 1
    assert lag.recent_s() == lag.worst_s
    assert lag.recent_s() == lag.worst_s, "looking changes nothing"


def test_the_collector_leaves_alone_what_was_built_at_the_start() -> None:
    usual = gc.get_threshold()
    try:
        calm_collector()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > usual[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)
