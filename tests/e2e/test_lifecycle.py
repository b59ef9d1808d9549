"""Real processes get real signals: whatever comes, and whenever, the process drains, spills or is ended by its watchdog."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHILD = ROOT / "tests/e2e/lifecycle_child.py"
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def child(behaviour: str, loop: str) -> Iterator[subprocess.Popen[str]]:
    with started(behaviour, subprocess.PIPE, loop) as process:
        yield process


@contextmanager
def started(behaviour: str, stderr: int, loop: str = "asyncio") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, CHILD, behaviour, loop], stdout=subprocess.PIPE, stderr=stderr, text=True, env=ENVIRONMENT, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def unread_pipe() -> Iterator[int]:
    """The writing end of a pipe that is full and that nobody reads."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    try:
        yield write_end
    finally:
        os.close(read_end)
        os.close(write_end)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@LOOPS
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_the_exit_is_clean(signum: signal.Signals, loop: str) -> None:
    with child("drain", loop) as process:
        assert line(process) == "ready"
        process.send_signal(signum)
        assert line(process) == f"drained {signum.name} True"
        assert process.wait(30) == 0


def test_a_signal_that_comes_while_modules_are_still_loading_is_not_lost() -> None:
    with child("drain", "asyncio") as process:
        until_blocked(process.pid)
        process.send_signal(signal.SIGTERM)
        assert line(process) == "ready"
        assert line(process) == "drained SIGTERM True"
        assert process.wait(30) == 0


def until_blocked(pid: int) -> None:
    """Until the process has taken SIGTERM out of the kernel's hands, which is its first statement."""
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s:
        status = Path(f"/proc/{pid}/status").read_text()
        blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
        if blocked >> (signal.SIGTERM - 1) & 1:
            return
    raise AssertionError("the process never armed its signals")


@LOOPS
def test_a_second_signal_within_moments_is_ignored_and_sigquit_spills_with_stacks(loop: str) -> None:
    with child("spill", loop) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "draining"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGQUIT)
        assert line(process).startswith("spilled")
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "=== stacks: SIGQUIT" in stderr
        assert "in spill" in stderr
        assert "--- thread MainThread" in stderr


@LOOPS
def test_the_watchdog_ends_a_shutdown_that_hangs_with_124_and_names_the_task(loop: str) -> None:
    with child("stuck_in_python", loop) as process:
        assert line(process) == "ready"
        sent_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 124
        assert 0.4 < time.monotonic() - sent_s < 30
        assert "--- task the task that hangs" in stderr


@LOOPS
def test_the_watchdog_fires_also_when_the_main_thread_is_stuck_in_c(loop: str) -> None:
    with child("stuck_in_c", loop) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 124
        assert "in stuck_in_c" in stderr


def test_the_watchdog_does_not_wait_for_a_stderr_that_nobody_reads() -> None:
    with unread_pipe() as stderr, started("stuck_in_python", stderr) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 124


def test_sigquit_spills_although_nobody_reads_the_stacks() -> None:
    with unread_pipe() as stderr, started("spill", stderr) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGQUIT)
        assert line(process) == "draining"
        assert line(process) == "spilled 1"


def test_ctrl_c_in_a_terminal_drains() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, str(CHILD), "drain", "uvloop"], ENVIRONMENT)  # noqa: S606 - no shell wanted
    try:
        assert "ready" in read_until(terminal, "ready")
        os.write(terminal, b"\x03")
        assert "drained SIGINT True" in read_until(terminal, "drained SIGINT True")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def read_until(terminal: int, words: str) -> str:
    seen = ""
    end_s = time.monotonic() + 10
    while words not in seen and time.monotonic() < end_s:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 4096).decode()
    return seen
