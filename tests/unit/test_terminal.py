"""The live line: speeds from counters, phases while draining, never wider than the terminal, nothing where there is none."""

from __future__ import annotations

import os
import pty
import re

import anyio
import pytest
from anyio import to_thread

from worker.logs import Lines
from worker.terminal import Rates, Speed, picture, show_live

WORKING = {"role": "active", "shards": 16, "accepted": 10, "delivered": 8, "buffered": 2, "in_flight": 1, "retry_queue": 3}
DRAINING = {
    **WORKING,
    "role": "draining",
    "phase": "DRAIN",
    "phases": [{"name": "PREPARE", "ms": 4, "cut": False}, {"name": "QUIESCE", "ms": 5001.6, "cut": True}],
    "left_s": 80,
    "budget_s": 110,
}


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_the_line_says_what_flows_and_what_waits() -> None:
    (line,) = plain(picture(WORKING, Speed(accepted=5.04, delivered=4.9), width=120))
    assert line == " active   in 5.0/s  delivered 4.9/s  buffered 2  in flight 1  retry queue 3  shards 16"


def test_while_draining_each_phase_that_ended_and_the_one_that_runs_have_a_line() -> None:
    first, second, third, line = plain(picture(DRAINING, Speed(), width=120))
    assert first.split() == ["✓", "PREPARE", "4", "ms"]
    assert second.split() == ["✓", "QUIESCE", "5,002", "ms", "cut", "short"]
    assert third.split()[:2] == ["▸", "DRAIN"]
    assert third.endswith("80 s left")
    assert line.startswith(" draining ")


@pytest.mark.parametrize("width", [20, 40, 79, 200])
def test_no_line_is_wider_than_the_terminal_even_with_the_echo_of_a_signal_behind_it(width: int) -> None:
    lines = plain(picture(DRAINING, Speed(), width=width))
    assert len(lines) == 4
    assert max(len(line) for line in lines) <= max(20, width - len("^C") - 1)


def test_what_is_not_known_is_not_shown() -> None:
    assert plain(picture({}, Speed(), width=120)) == [" starting   in 0.0/s  delivered 0.0/s"]


def test_speeds_need_two_looks_and_settle_at_the_true_rate() -> None:
    rates = Rates()
    assert rates.after({"accepted": 1_000, "delivered": 900}, 10.0) == Speed()
    for second in range(1, 40):
        speed = rates.after({"accepted": 1_000 + 50 * second, "delivered": 900 + 20 * second}, 10.0 + second)
    assert speed.accepted == pytest.approx(50)
    assert speed.delivered == pytest.approx(20)


def test_a_counter_that_begins_anew_is_no_negative_speed() -> None:
    rates = Rates()
    rates.after({"accepted": 1_000}, 1.0)
    assert rates.after({"accepted": 3}, 2.0).accepted == 0


@pytest.mark.anyio
async def test_where_there_is_no_terminal_nothing_is_asked_and_nothing_shown() -> None:
    read_end, write_end = os.pipe()
    asked = []
    with anyio.fail_after(1):
        await show_live(Lines(write_end), lambda: asked.append(1) or {})  # type: ignore[func-returns-value]
    os.close(read_end)
    os.close(write_end)
    assert not asked


@pytest.mark.anyio
async def test_the_footer_goes_when_the_display_ends() -> None:
    ours, theirs = pty.openpty()
    lines = Lines(theirs)
    lines.start()
    asked = anyio.Event()

    def statistics() -> dict[str, object]:
        asked.set()
        return dict(WORKING)

    async with anyio.create_task_group() as group:
        group.start_soon(show_live, lines, statistics)
        await asked.wait()
        assert await to_thread.run_sync(lines.flush)
        group.cancel_scope.cancel()
    assert await to_thread.run_sync(lines.flush)
    shown = ""
    while not shown.endswith("\r\x1b[2K"):  # a terminal hands over piece by piece
        shown += (await to_thread.run_sync(os.read, ours, 65_536)).decode()
    await to_thread.run_sync(lines.close)
    os.close(ours)
    os.close(theirs)
    assert "retry queue 3" in shown
