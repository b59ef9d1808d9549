"""The drain report (contract 8): what was there at the signal, what happened to it, and whether it balances. Pure.

```
pending_at_signal + appended = completed + parked + dead + in_journal        (events, over the shards owned, each until its release)
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.client_registry.tenure import Tenure
from worker.domain.ids import EventKey, OwnerId, Position, Shard
from worker.journal.completion import Tally
from worker.lifecycle import ExitCode

KEPT_REPORTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """A report as it is kept: when (RFC 3339) which life of a worker wrote it."""

    at: str
    owner: str
    report: Mapping[str, Any]


TELLING = ("reason", "reason_source", "family", "revision", "successor", "exit_code", "during", "spilled", "receipts", "ledger")


def summary(kept: KeptReport) -> dict[str, Any]:
    """What of it tells how it went, in a few words; what a report of another release does not have is left out."""
    took_ms = sum(phase.get("ms", 0) for phase in kept.report.get("phases", []))
    told = {name: kept.report[name] for name in TELLING if name in kept.report}
    return {"at": kept.at, "owner": kept.owner, "ms": took_ms, **told}


class DrainReports(Protocol):
    """The last 50 of all workers, for `GET /api/drains`. Both raise `StoreUnavailable`, `save` also `StoreFull`."""

    async def save(self, kept: KeptReport) -> None:
        """Keeps one more; the oldest gives way."""
        ...

    async def latest(self, most: int = KEPT_REPORTS) -> Sequence[KeptReport]:
        """Newest first, at most so many."""
        ...


@dataclass(slots=True)
class ShardAccount:
    """One shard from the signal to its release. Opened and closed at instants at which nothing is between two places."""

    shard: Shard
    token: int
    tail_at_signal: Position
    pending_at_signal: int
    released_to: OwnerId | None = None
    is_released: bool = False
    is_closed: bool = False
    held_after_signal_ms: int | None = None
    appended: int = 0
    in_journal: int = 0
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def opened(cls, tenure: Tenure, tail: Position) -> ShardAccount:
        """Starts counting: from here on every event of the shard that leaves the journal is tallied.

        `tail` as the store said it, or further where the reader has seen more since.
        """
        completion = tenure.completion
        completion.tally = Tally()
        tail = max(tail, completion.cursor)
        return cls(tenure.shard, tenure.token, tail, tail - completion.cursor + completion.open_events)

    def close(self, tenure: Tenure, tail: Position) -> None:
        """Stops counting: what is left is the successor's."""
        completion = tenure.completion
        self.is_closed = True
        self.tally = completion.tally
        completion.tally = Tally()
        tail = max(tail, completion.cursor)
        self.appended = tail - self.tail_at_signal - self.tally.gaps
        self.in_journal = tail - completion.cursor + completion.open_events

    def row(self) -> dict[str, Any]:
        return {
            "shard": self.shard,
            "token": self.token,
            "released_to": self.released_to,
            "released": self.is_released,
            "held_after_signal_ms": self.held_after_signal_ms,
        }


def ledger(accounts: list[ShardAccount]) -> dict[str, int]:
    """The sums over all shards."""
    return {
        "pending_at_signal": sum(a.pending_at_signal for a in accounts),
        "appended": sum(a.appended for a in accounts),
        "completed": sum(a.tally.completed for a in accounts),
        "parked": sum(a.tally.parked for a in accounts),
        "dead": sum(a.tally.dead for a in accounts),
        "in_journal": sum(a.in_journal for a in accounts),
    }


def balances(sums: dict[str, int]) -> bool:
    return sums["pending_at_signal"] + sums["appended"] == sums["completed"] + sums["parked"] + sums["dead"] + sums["in_journal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTime:
    """`cut`: the phase's time ended before its work did."""

    name: str
    ms: int
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Who left, why, and how patient it was; the report's head. `task_arn` None where the platform gave none."""

    reason: str
    reason_source: str
    signal: str | None
    signals_seen: int
    task_arn: str | None
    family: str
    revision: int
    successor: OwnerId | None
    budget_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leavings:
    """What the phases left behind, as the shutdown counted it."""

    phases: list[PhaseTime]
    accounts: list[ShardAccount]
    at_signal: dict[str, float]
    during: dict[str, int]
    spilled: dict[str, int]
    receipts: dict[str, int]
    stuck: list[dict[str, str]]
    loop_lag_max_ms: int
    undurable_ids: list[EventKey]


def drain_report(departure: Departure, leavings: Leavings, *, exit_code: int) -> dict[str, Any]:
    """The one JSON line, in the contract's order."""
    sums = ledger(leavings.accounts)
    return {
        "event": "drain_report",
        "reason": departure.reason,
        "reason_source": departure.reason_source,
        "signal": departure.signal,
        "signals_seen": departure.signals_seen,
        "task_arn": departure.task_arn,
        "family": departure.family,
        "revision": departure.revision,
        "successor": departure.successor,
        "budget_s": departure.budget_s,
        "phases": [{"name": p.name, "ms": p.ms, "cut": p.cut} for p in leavings.phases],
        "at_signal": leavings.at_signal,
        "during": leavings.during,
        "spilled": leavings.spilled,
        "receipts": leavings.receipts,
        "shards": [account.row() for account in leavings.accounts],
        "stuck": leavings.stuck,
        "loop_lag_max_ms": leavings.loop_lag_max_ms,
        "undurable_ids": leavings.undurable_ids,
        "ledger": sums,
        "balances": balances(sums),
        "exit_code": exit_code,
    }


def in_words(report: Mapping[str, Any]) -> str:
    """The report as one line for a person: `stopped in 2.6 s: 5 delivered, 0 parked, nothing lost, exit 0`."""
    sums, code, waited = report["ledger"], report["exit_code"], report["at_signal"].get("retry_queue")
    told = [f"{report['during']['delivered']} delivered", f"{sums['parked']} parked"]
    told += [f"{sums[key]} {name}" for key, name in (("dead", "dead letters"), ("in_journal", "left in the journal")) if sums[key]]
    told += [f"{waited:,} wait for a retry from before"] if waited else []
    told.append("nothing lost" if code in _NOTHING_LOST else "not all of it proved durable: see the log above")
    return f"stopped in {sum(phase['ms'] for phase in report['phases']) / 1000:.1f} s: {', '.join(told)}, exit {code}"


_NOTHING_LOST = frozenset({ExitCode.CLEAN, ExitCode.LEFT_TO_TIME})
