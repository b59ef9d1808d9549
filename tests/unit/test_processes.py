"""What several processes amount to: the worst code, one report, one live line; the word that a child is given."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from anyio import create_memory_object_stream

from worker.commands.processes import plan_of, usable_cores
from worker.domain.errors import ConfigurationError
from worker.lifecycle import ExitCode
from worker.processes.child import lines_of
from worker.processes.seat import Seat
from worker.processes.supervisor import LONGEST_PAUSE_S, pause_s
from worker.processes.totals import exit_code_of, live_total, summed, worst
from worker.settings import Settings
from worker.settings.sections import HttpSettings

FROM_GOOD_TO_BAD = [
    ExitCode.CLEAN,
    ExitCode.LEFT_TO_TIME,
    ExitCode.MISCONFIGURED,
    ExitCode.UNREACHABLE,
    ExitCode.NOT_DURABLE,
    ExitCode.WATCHDOG,
]


def report(**more: Any) -> dict[str, Any]:
    """One child's: an event was there, one came, one was delivered, one was left."""
    return {
        "reason": "deployment",
        "reason_source": "membership",
        "budget_s": 20.0,
        "phases": [{"name": "prepare", "ms": 5, "cut": False}, {"name": "drain", "ms": 100, "cut": False}],
        "at_signal": {"buffered": 1, "in_flight": 1, "journal_backlog": 1, "oldest_age_s": 0.25},
        "during": {"accepted": 1, "refused": 0, "delivered": 2, "failed": 0},
        "spilled": {"events": 0, "webhooks": 0, "unconfirmed": 0},
        "receipts": {"sent": 3, "handed_over": 1},
        "undurable_ids": [],
        "shards": [{"shard": 1, "released": True}, {"shard": 2, "released": False}],
        "stuck": [],
        "loop_lag_max_ms": 7,
        "ledger": {"pending_at_signal": 1, "appended": 1, "completed": 1, "parked": 0, "dead": 0, "in_journal": 1},
        "balances": True,
        **more,
    }


def total(*reports: dict[str, Any], codes: list[ExitCode]) -> dict[str, Any]:
    return summed(reports, processes=len(codes), signal="SIGTERM", signals_seen=1, codes=codes)


@pytest.mark.parametrize(("better", "worse"), list(pairwise(FROM_GOOD_TO_BAD)))
def test_the_worse_of_two_codes_is_the_code_of_both(better: ExitCode, worse: ExitCode) -> None:
    assert worst([better, worse]) == worst([worse, better]) == worse


@pytest.mark.parametrize(("port", "ports_from"), [(8110, 8110), (8111, 8110)])
def test_ports_of_their_own_that_hold_the_shared_one_are_refused(port: int, ports_from: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"--process-ports: {ports_from}: allowed: 2 ports without http\.port \({port}\)"):
        plan_of(Settings(http=HttpSettings(port=port)), 2, ports_from)


@pytest.mark.parametrize(("port", "ports_from"), [(8109, 8110), (8112, 8110), (8110, None)])
def test_ports_of_their_own_beside_the_shared_one_are_taken(port: int, ports_from: int | None) -> None:
    plan = plan_of(Settings(http=HttpSettings(port=port)), 2, ports_from)
    assert (plan.port, plan.ports_from) == (port, ports_from)


def test_no_process_at_all_is_a_clean_end() -> None:
    assert worst([]) is ExitCode.CLEAN


@pytest.mark.parametrize(("returncode", "means"), [(0, ExitCode.CLEAN), (75, ExitCode.LEFT_TO_TIME), (124, ExitCode.WATCHDOG)])
def test_a_worker_s_own_code_means_what_it_says(returncode: int, means: ExitCode) -> None:
    assert exit_code_of(returncode) is means


@pytest.mark.parametrize("returncode", [-9, -11, 1, 2, None])
def test_any_other_end_is_a_crash(returncode: int | None) -> None:
    assert exit_code_of(returncode) is ExitCode.NOT_DURABLE


def test_counts_are_summed_and_times_are_the_longest() -> None:
    slow = report(
        phases=[{"name": "prepare", "ms": 2, "cut": False}, {"name": "drain", "ms": 900, "cut": True}],
        at_signal={"buffered": 2, "in_flight": 0, "journal_backlog": 4, "oldest_age_s": 1.5},
        loop_lag_max_ms=70,
        undurable_ids=["lost"],
    )
    told = total(report(), slow, codes=[ExitCode.CLEAN, ExitCode.LEFT_TO_TIME])
    assert told["phases"] == [{"name": "prepare", "ms": 5, "cut": False}, {"name": "drain", "ms": 900, "cut": True}]
    assert told["at_signal"] == {"buffered": 3, "in_flight": 1, "journal_backlog": 5, "oldest_age_s": 1.5}
    assert told["during"] == {"accepted": 2, "refused": 0, "delivered": 4, "failed": 0}
    assert told["receipts"] == {"sent": 6, "handed_over": 2}
    assert told["undurable_ids"] == ["lost"]
    assert (told["shards_held"], told["shards_released"], "shards" in told) == (4, 2, False)
    assert told["ledger"] == {"pending_at_signal": 2, "appended": 2, "completed": 2, "parked": 0, "dead": 0, "in_journal": 2}
    assert (told["loop_lag_max_ms"], told["balances"], told["exit_codes"], told["exit_code"]) == (70, True, [0, 75], 75)


def test_the_sum_says_why_they_were_stopped_how_patient_they_were_and_where_they_stuck() -> None:
    stuck = [{"task": "deliver", "at": "pipeline.py:1"}]
    told = total(report(), report(reason="scale_in", budget_s=30.0, stuck=stuck), report(), codes=[ExitCode.CLEAN] * 3)
    assert (told["reason"], told["reason_source"], told["budget_s"], told["stuck"]) == ("deployment, scale_in", "membership", 30.0, stuck)
    none = total(codes=[ExitCode.WATCHDOG])
    assert (none["reason"], none["reason_source"], none["budget_s"], none["stuck"]) == ("unknown", "none", 0, [])


def test_one_report_that_does_not_balance_makes_a_sum_that_does_not_even_where_another_makes_up_for_it() -> None:
    more = report(ledger={**report()["ledger"], "completed": 2}, balances=False)
    less = report(ledger={**report()["ledger"], "completed": 0}, balances=False)
    assert not total(more, less, codes=[ExitCode.CLEAN] * 2)["balances"]


def test_a_process_that_wrote_no_report_is_missing_among_the_reports() -> None:
    told = total(report(), codes=[ExitCode.CLEAN, ExitCode.WATCHDOG])
    assert (told["processes"], told["reports"], told["exit_code"]) == (2, 1, 124)


def test_no_report_at_all_sums_to_nothing_and_balances() -> None:
    told = total(codes=[ExitCode.CLEAN])
    assert (told["balances"], set(told["ledger"].values()), told["during"]) == (True, {0}, {"delivered": 0})


def test_the_live_line_of_all_is_active_as_soon_as_one_is_and_counts_them_together() -> None:
    facts = [{"role": "standby", "shards": 0, "delivered": 1}, {"role": "active", "shards": 16, "delivered": 4}]
    assert live_total(facts) == {"role": "active", "shards": 16, "delivered": 5}
    assert live_total([]) == {"role": "starting"}


def test_while_they_drain_the_live_line_shows_the_phases_of_whoever_is_furthest_behind() -> None:
    ahead = {"role": "draining", "phase": "exit", "phases": [{}, {}], "left_s": 9, "budget_s": 10}
    behind = {"role": "draining", "phase": "drain", "phases": [{}], "left_s": 8, "budget_s": 10}
    shown = live_total([ahead, behind])
    assert (shown["role"], shown["phase"], shown["left_s"]) == ("draining", "drain", 8)


def test_a_seat_survives_its_own_word() -> None:
    seat = Seat(index=1, of=3, listening=(5, 7), store_url="unix:///tmp/x/s", mark="ab12cd", console=True)
    assert Seat.from_word(seat.word()) == seat
    assert seat.has_parent
    assert not Seat().has_parent


def test_who_keeps_dying_is_waited_for_longer_and_longer_and_never_beyond_the_longest_pause() -> None:
    assert [pause_s(failures, 1.0) for failures in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert pause_s(10_000, 1.0) == LONGEST_PAUSE_S
    assert pause_s(5, 0.0) == 0.0, "full jitter"


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("nonsense", None), ("99999999 1", None)]
)
def test_a_container_s_quota_bounds_the_cores_where_it_is_less(tmp_path: Path, quota: str, cores: int | None) -> None:
    told = tmp_path / "cpu.max"
    told.write_text(quota + "\n")
    of_all = usable_cores(tmp_path / "missing")
    assert usable_cores(told) == (cores or of_all)
    assert of_all >= 1


@pytest.mark.anyio
async def test_lines_come_whole_however_they_were_cut_on_the_way() -> None:
    send, receive = create_memory_object_stream[bytes](10)
    for piece in (b"on", b"e\ntwo\nth", b"", b"ree\n", b"rest"):
        send.send_nowait(piece)
    send.close()
    with receive:
        assert [line async for line in lines_of(receive)] == [b"one", b"two", b"three", b"rest"]
