"""How several processes end: by Ctrl-C in a terminal, at the end of patience, and when none of them can start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.conftest import scaled
from tests.e2e.processes_world import Processes, gone
from tests.e2e.rig import Hook, Rig, Worker, declared, until
from tests.e2e.test_worker_life import Terminal, demo_delivered, environment, is_told_in_words, plain, working_in
from tests.real_redis import real_redis

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
__all__ = ["environment"]  # a fixture


def run(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "WORKER_DATA_DIR": str(tmp_path), "WORKER_HTTP__PORT": "0", **settings}
    command = [sys.executable, "-m", "worker", "run", "--processes", "2"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_store_that_stays_unreachable_ends_all_in_69_told_once(tmp_path: Path) -> None:
    ended = run(tmp_path, WORKER_REDIS__URL="redis://127.0.0.1:1/0", WORKER_STARTUP__WAIT_S="1")
    assert ended.returncode == 69
    assert ended.stderr.count("correct redis.url (WORKER_REDIS__URL)") == 1
    assert "Traceback" not in ended.stderr


def test_an_evicting_store_ends_all_in_78_told_once(tmp_path: Path) -> None:
    with real_redis(**{"maxmemory-policy": "allkeys-lru"}) as server:
        ended = run(tmp_path, WORKER_REDIS__URL=server.url)
    assert ended.returncode == 78
    assert ended.stderr.count("noeviction") == 1
    assert "Traceback" not in ended.stderr


def test_embedded_is_refused_where_the_disk_dies_with_the_task(tmp_path: Path) -> None:
    ended = run(tmp_path, ECS_CONTAINER_METADATA_URI_V4="http://169.254.170.2/v4/x")
    assert ended.returncode == 78
    assert ended.stderr.count("whose disk dies with it") == 1


async def test_a_port_or_a_data_directory_in_use_ends_in_78_naming_it(rig: Rig) -> None:
    toml = declared([Hook("crm", rig.sink.url("crm"))])
    first = Processes(rig, toml)
    await first.ready()
    same_port, same_data, same_own_port = (Processes(rig, toml) for _ in range(3))
    same_port.worker.port = first.worker.port
    same_data.worker.data_dir = first.worker.data_dir
    same_own_port.worker.command[-1] = str(first.own_ports[1])
    assert await refused(same_port.worker) == [
        f"http.port (WORKER_HTTP__PORT): {first.worker.port} on 127.0.0.1 is in use by another process; stop that one or choose a free port"
    ]
    [told] = await refused(same_own_port.worker)
    assert told.startswith(f"--process-ports: {first.own_ports[1]} on 127.0.0.1 is in use")
    [told] = await refused(same_data.worker)
    assert f"held by the worker with process id {first.worker.pid}" in told
    assert (await first.worker.stop())[0] == 0


async def refused(worker: Worker) -> list[str]:
    """What it says of it, beside its log."""
    await worker.launch()
    assert await worker.ended(30) == 78
    return [line["text"] for line in worker.lines() if "text" in line]


async def test_ctrl_c_in_a_terminal_drains_each_once_and_the_sum_is_the_last_line(rig: Rig, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "worker", "run", "--processes", "2"]
    terminal = await to_thread.run_sync(Terminal, command, environment)
    try:
        async with anyio.create_task_group() as reading:

            async def keep_reading() -> None:
                while True:
                    terminal.read()
                    await anyio.sleep(0.02)

            reading.start_soon(keep_reading)
            await demo_delivered(rig, environment["WORKER_HTTP__PORT"], 1, within_s=60)
            await until(lambda: "retry queue" in terminal.shown, 20, "the live line is shown")
            await until(lambda: terminal.shown.count("worker_ready") == 2, 40, "both are ready")
            terminal.ctrl_c()
            code = await terminal.ended(40)
            reading.cancel_scope.cancel()
    finally:
        terminal.close()
    lines = plain(terminal.shown)
    reports = [line for line in lines if '"event":"drain_report"' in line]
    assert code == 0
    assert len(reports) == 2
    assert all('"signal":"SIGINT","signals_seen":1' in line for line in reports), "Ctrl-C reached each of them once"
    assert '"event":"drain_reports_summed"' in lines[-1]
    assert is_told_in_words(terminal.shown, '"drain_reports_summed"')
    assert all(line.startswith("{") and line.endswith("}") for line in reports), "nothing ran into them"
    assert list(working_in(rig.directory)) == [], "their server has gone too"


async def test_a_second_signal_after_five_seconds_makes_all_of_them_spill(rig: Rig) -> None:
    hooks = [Hook("never", rig.sink.url("never", "hang"), deadline_s=30), Hook("all", rig.sink.url("all"))]
    processes = Processes(rig, declared(hooks, ("i", "j")), SHUTDOWN__BUDGET_S="60", SHUTDOWN__STOP_TIMEOUT_S="70")
    await processes.ready()
    gateway = rig.gateway(processes.worker)
    await gateway.push_many(20, ("i", "j"))
    processes.worker.send(signal.SIGTERM)
    await anyio.sleep(5.2)
    assert processes.worker.is_alive
    processes.worker.send(signal.SIGTERM)
    code = await processes.worker.ended(scaled(8, 20))
    [total] = processes.worker.lines("drain reports, summed")
    assert code in {0, 75}
    assert (total["signals_seen"], total["balances"], total["exit_code"]) == (2, True, code)


async def test_one_that_never_ends_is_killed_when_all_patience_is_over_and_the_code_says_so(rig: Rig) -> None:
    processes = Processes(rig, declared([Hook("crm", rig.sink.url("crm"))]), SHUTDOWN__BUDGET_S="1")
    await processes.ready()
    pids = processes.seats()
    os.kill(pids[1], signal.SIGSTOP)
    code, _ = await processes.worker.stop()
    [total] = processes.worker.lines("drain reports, summed")
    assert code == 124
    assert (total["exit_codes"], total["reports"], total["processes"]) == ([0, 124], 1, 2)
    await gone(list(pids.values()))


async def test_signals_that_come_while_they_start_are_not_lost(rig: Rig) -> None:
    processes = Processes(rig, declared([Hook("crm", rig.sink.url("crm"))]))
    for patience_s in (0.0, 0.5, 1.2):
        await processes.worker.launch()
        await until(lambda: bool(processes.worker.lines("processes_start")), 20, "it starts")
        await anyio.sleep(patience_s)
        code, _ = await processes.worker.stop(within_s=30)
        assert code == 0
    with_one = [sys.executable, "-m", "worker", "run", "--processes", "1"]
    processes.worker.command = with_one
    await processes.worker.start()
    assert processes.seats() == {}, "one is no parent"
    assert (await processes.worker.stop())[0] == 0
