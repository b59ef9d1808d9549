"""What several processes amount to: the worst exit code, one report, one live line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.drain_report import balances
from worker.lifecycle import ExitCode

_BADNESS = (
    ExitCode.CLEAN,
    ExitCode.LEFT_TO_TIME,
    ExitCode.MISCONFIGURED,
    ExitCode.UNREACHABLE,
    ExitCode.NOT_DURABLE,
    ExitCode.WATCHDOG,
)

Report = Mapping[str, Any]


def exit_code_of(returncode: int | None) -> ExitCode:
    """What a process's end means. One that ended by a signal, or as no worker does, crashed; None: it could not even be started."""
    return next((code for code in ExitCode if code == returncode), ExitCode.NOT_DURABLE)


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The one that asks for most attention; of none: clean."""
    return max(codes, key=_BADNESS.index, default=ExitCode.CLEAN)


def summed(
    reports: Sequence[Report], *, processes: int, signal: str | None, signals_seen: int, codes: Sequence[ExitCode]
) -> dict[str, Any]:
    """One report of the reports of all that wrote one: sums, for times the longest. `processes`: how many there were at the signal."""
    ledger = _sums([report["ledger"] for report in reports])
    ledger = dict.fromkeys(("pending_at_signal", "appended", "completed", "parked", "dead", "in_journal"), 0) | ledger
    shards = [shard for report in reports for shard in report["shards"]]
    return {
        "message": "drain reports, summed",
        "event": "drain_reports_summed",
        "reason": _each_once([report["reason"] for report in reports]) or "unknown",
        "reason_source": _each_once([report["reason_source"] for report in reports]) or "none",
        "signal": signal,
        "signals_seen": signals_seen,
        "processes": processes,
        "reports": len(reports),
        "budget_s": max((report["budget_s"] for report in reports), default=0),
        "phases": _phases([report["phases"] for report in reports]),
        "at_signal": {name: round(value, 3) for name, value in _sums([report["at_signal"] for report in reports], "oldest_age_s").items()},
        "during": {"delivered": 0} | _sums([report["during"] for report in reports]),
        "spilled": _sums([report["spilled"] for report in reports]),
        "receipts": _sums([report["receipts"] for report in reports]),
        "shards_held": len(shards),
        "shards_released": sum(1 for shard in shards if shard["released"]),
        "stuck": [one for report in reports for one in report["stuck"]],
        "undurable_ids": [key for report in reports for key in report["undurable_ids"]],
        "loop_lag_max_ms": max((report["loop_lag_max_ms"] for report in reports), default=0),
        "ledger": ledger,
        "balances": balances(ledger) and all(report["balances"] for report in reports),
        "exit_codes": [int(code) for code in codes],
        "exit_code": int(worst(codes)),
    }


def _each_once(words: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def live_total(facts: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The live line of all: counts summed; while draining the phases of whoever is furthest behind."""
    if not facts:
        return {"role": "starting"}
    draining = [one for one in facts if "phase" in one]
    total: dict[str, object] = dict(_sums([{key: value for key, value in one.items() if key in _COUNTED} for one in facts]))
    roles = [str(one.get("role", "starting")) for one in facts]
    total["role"] = "draining" if draining else "active" if "active" in roles else roles[0]
    if draining:
        behind = min(draining, key=_phases_done)
        total |= {key: behind[key] for key in ("phase", "phases", "left_s", "budget_s") if key in behind}
    return total


_COUNTED = frozenset({"shards", "accepted", "delivered", "buffered", "in_flight", "retry_queue"})


def _phases_done(facts: Mapping[str, object]) -> int:
    phases = facts.get("phases")
    return len(phases) if isinstance(phases, list | tuple) else 0


def _sums(rows: Sequence[Mapping[str, Any]], *largest: str) -> dict[str, Any]:
    """Key by key; of those in `largest` the largest."""
    total: dict[str, Any] = {}
    for row in rows:
        for key, value in row.items():
            total[key] = max(total.get(key, value), value) if key in largest else total.get(key, 0) + value
    return total


def _phases(of_each: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Each phase as long as the slowest took; cut if it was for one of them."""
    longest: dict[str, dict[str, Any]] = {}
    for phases in of_each:
        for phase in phases:
            known = longest.setdefault(phase["name"], {"name": phase["name"], "ms": 0, "cut": False})
            known["ms"] = max(known["ms"], phase["ms"])
            known["cut"] = known["cut"] or phase["cut"]
    return list(longest.values())
