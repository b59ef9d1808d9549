"""A life of the worker, from its start to its report: by SIGTERM, by Ctrl-C in a terminal, by `make`, by SIGKILL."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.e2e.rig import Hook, Rig, Worker, children_of, command_of, declared, free_port, pushing, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


def servers_of(worker: Worker) -> list[int]:
    return [pid for pid in children_of(worker.pid) if "redis-server" in command_of(pid)]


async def test_events_flow_and_sigterm_ends_with_0_and_a_report_that_balances(rig: Rig) -> None:
    worker = rig.worker(declared([Hook("crm", rig.sink.url("crm")), Hook("bi", rig.sink.url("bi"))]))
    ready_s = await worker.start()
    gateway = rig.gateway(worker)
    async with pushing(gateway, per_s=200):
        await until(lambda: len(rig.sink.got("crm")) > 200, 20, "events arrive")
        await worker.start_draining()
        code = await worker.ended(30)
        report = worker.report()
        # The gateway still pushes: what it could not hand over is for the next life.
        await worker.start()
        await until(lambda: len(gateway.accepted) > 600, 20, "the next life accepts")
    accepted = set(gateway.accepted)
    await until(lambda: accepted <= rig.sink.got("crm") & rig.sink.got("bi"), 20, "everything accepted arrives")
    assert code == 0
    assert report["balances"]
    assert (report["signal"], report["signals_seen"], report["exit_code"]) == ("SIGTERM", 1, 0)
    assert [phase["name"] for phase in report["phases"]] == ["prepare", "quiesce", "drain", "spill", "teardown", "handover", "exit"]
    assert not any(phase["cut"] for phase in report["phases"])
    assert all(shard["released"] for shard in report["shards"])
    assert rig.sink.repeated("crm") == rig.sink.repeated("bi") == {}
    assert rig.sink.forged == 0
    state("sigterm under load", ready_s=ready_s, drain_ms=sum(phase["ms"] for phase in report["phases"]), ledger=report["ledger"])


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_worker_whose_standard_streams_were_closed_lives_and_ends_like_any_other(rig: Rig, closed: str) -> None:
    worker = rig.worker(declared([Hook("all", rig.sink.url("all"))]))
    worker.command = ["sh", "-c", f"exec {sys.executable} -m worker run {closed}"]
    await worker.start()
    await rig.gateway(worker).push_many(20)
    await until(lambda: len(rig.sink.got("all")) == 20, 30, "events flow")
    assert (await worker.stop())[0] == 0


async def test_a_killed_worker_leaves_no_server_and_the_next_one_serves_at_once(rig: Rig) -> None:
    """With leases of a minute: whoever waited for one would be seen."""
    worker = rig.worker(declared([Hook("crm", rig.sink.url("crm"))]), REGISTRY__LEASE_TTL_S="60")
    await worker.start()
    gateway = rig.gateway(worker)
    await gateway.push_many(scaled(50, 500))
    [server] = servers_of(worker)
    await worker.kill()
    gone_s = await until(lambda: not command_of(server), 2, "the server has gone")
    ready_s = await worker.start()
    await gateway.push_many(50)
    served_s = await until(lambda: set(gateway.accepted) <= rig.sink.got("crm"), 10, "the new worker serves all shards")
    with anyio.fail_after(10):
        while len(await worker.shards()) < 16:  # noqa: ASYNC110 - another process's state
            await anyio.sleep(0.01)
    state("start after sigkill", server_gone_s=gone_s, ready_s=ready_s, served_s=served_s)


class Terminal:
    """A process in a terminal of its own: its session's leader, in the foreground, told Ctrl-C by a key."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_FOREGROUND, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**environment, "TERM": "xterm", "COLUMNS": "4000"},
            start_new_session=True,
        )
        os.close(slave)
        fcntl.fcntl(self._master, fcntl.F_SETFL, os.O_NONBLOCK)
        self.shown = ""

    def read(self) -> str:
        """Everything shown so far. A terminal nobody reads stops its writers."""
        try:
            while piece := os.read(self._master, 65_536):
                self.shown += piece.decode(errors="replace")
        except OSError:  # nothing more now, or the other side has closed
            pass
        return self.shown

    def ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    async def ended(self, within_s: float) -> int:
        await until(lambda: bool(self.read()) and self.process.poll() is not None, within_s, "the process in the terminal ends")
        self.read()
        code = self.process.poll()
        assert code is not None
        return code

    def close(self) -> None:
        """Also what runs under it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        os.close(self._master)


_IN_FOREGROUND = f"""
import fcntl, os, sys
fcntl.ioctl(0, {termios.TIOCSCTTY}, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def plain(shown: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()


def reported(shown: str) -> dict[str, object]:
    """The drain report among the lines of a terminal."""
    [line] = [line for line in plain(shown) if '"drain_report"' in line]
    return dict(json.loads(line[line.index("{") :]))


def is_told_in_words(shown: str, event: str = '"drain_report"') -> bool:
    """Whether the line before the report says that nothing was lost."""
    lines = plain(shown)
    [number] = [number for number, line in enumerate(lines) if event in line]
    return re.fullmatch(r"stopped in .* s: \d+ delivered, .*nothing lost, exit 0", lines[number - 1]) is not None


@pytest.fixture
async def environment(rig: Rig) -> dict[str, str]:
    """Of a demo on a free port with its data in the rig's directory."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    port = str(free_port())
    return inherited | {"WORKER_HTTP__PORT": port, "WORKER_DATA_DIR": str(rig.directory / "demo"), "WORKER_CONFIG": "config/local.toml"}


async def demo_delivered(rig: Rig, port: str, at_least: int, within_s: float) -> None:
    """Waits until the demo's own webhooks have got events."""
    began_s = time.monotonic()
    while True:
        assert time.monotonic() - began_s < within_s, "the demo's events flow"
        try:
            async with rig.session.get(f"http://127.0.0.1:{port}/status") as answer:
                if (await answer.json()).get("settling", {}).get("delivered", 0) >= at_least:
                    return
        except OSError:
            pass
        await anyio.sleep(0.05)


@pytest.mark.parametrize("how", ["python", "make"])
async def test_ctrl_c_in_a_terminal_drains_the_worker_and_reports(rig: Rig, environment: dict[str, str], how: str) -> None:
    command = ["make", "worker"] if how == "make" else [sys.executable, "-m", "worker", "run"]
    began_s = time.monotonic()
    terminal = await to_thread.run_sync(Terminal, command, environment)
    try:
        async with anyio.create_task_group() as reading:

            async def keep_reading() -> None:
                while True:
                    terminal.read()
                    await anyio.sleep(0.02)

            reading.start_soon(keep_reading)
            await demo_delivered(rig, environment["WORKER_HTTP__PORT"], 10, within_s=60)
            flowed_s = time.monotonic() - began_s
            terminal.ctrl_c()
            code = await terminal.ended(30)
            reading.cancel_scope.cancel()
        report = reported(terminal.shown)
        assert (report["signal"], report["signals_seen"], report["exit_code"], report["balances"]) == ("SIGINT", 1, 0, True)
        assert is_told_in_words(terminal.shown)
        assert any(f"dashboard=http://127.0.0.1:{environment['WORKER_HTTP__PORT']}/" in line for line in plain(terminal.shown))
        if how == "make":
            [said] = [line for line in terminal.shown.splitlines() if line.startswith("worker: process id ")]
            pid = int(said.split()[3])
            assert not command_of(pid)
        else:
            assert code == 0
        state(f"ctrl-c in a terminal, {how}", events_flow_s=flowed_s)
    finally:
        terminal.close()
    assert list(working_in(rig.directory)) == [], "its server has gone too"


def working_in(directory: Path) -> Iterator[int]:
    """Process ids by working directory: a redis-server changes into its data's, and rewrites its command line."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and (entry / "cwd").readlink().is_relative_to(directory):
                yield int(entry.name)
