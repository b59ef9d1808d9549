"""The ledger balances whatever happens between the signal and the release, and every figure in it is a count."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.adapters.redis_drain_reports import kept_report
from worker.client_registry.tenure import Tenure
from worker.domain.ids import OwnerId, Position, Shard, TenantId, Token, WebhookId
from worker.drain_report import Departure, KeptReport, Leavings, PhaseTime, ShardAccount, balances, drain_report, in_words, ledger, summary
from worker.journal.completion import Completion
from worker.journal.port import Done, Progress

HOOK, ACME = WebhookId("crm"), TenantId("acme")
FATES = st.sampled_from(["delivered", "parked", "dead", "waits", "unrouted", "known"])


def tenure(done: frozenset[Done] = frozenset()) -> Tenure:
    progress = Progress(prefix=Position(1), done=done, tail=Position(1))
    return Tenure(Shard(2), Token(9), Completion(Shard(2), progress), granted_at_s=0.0, valid_until_s=10.0)


def meet(completion: Completion, position: int, fate: str) -> None:
    completion.begin(Position(position), ACME, 10, [] if fate == "unrouted" else [HOOK])
    if fate == "delivered":
        completion.finish(Position(position), HOOK)
    elif fate in {"parked", "dead"}:
        completion.relieve(Position(position), HOOK, dead=fate == "dead")


@given(st.lists(FATES), st.lists(FATES), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3))
def test_the_ledger_balances(before: list[str], during: list[str], unread: int, appended: int, gap: int) -> None:
    """`unread`: in the journal at the signal and not read; `appended` after it; `gap`: positions after the signal that hold nothing."""
    unread = 0 if gap else unread
    fates = [*before, *during]
    shift = [0] * len(before) + [gap] * len(during)
    places = [n + 1 + extra for n, extra in enumerate(shift)]
    known = frozenset(Done(Position(place), None) for place, fate in zip(places, fates, strict=True) if fate == "known")
    it = tenure(known)
    for place, fate in list(zip(places, fates, strict=True))[: len(before)]:
        meet(it.completion, place, fate)
    account = ShardAccount.opened(it, Position(it.completion.cursor + unread))
    for place, fate in list(zip(places, fates, strict=True))[len(before) :]:
        meet(it.completion, place, fate)
    account.close(it, Position(max(account.tail_at_signal, it.completion.cursor) + appended))
    sums = ledger([account])
    assert balances(sums)
    assert account.is_closed
    assert {name: count for name, count in sums.items() if count < 0} == {}


def test_a_tail_that_is_behind_the_reader_is_taken_from_the_reader() -> None:
    it = tenure()
    account = ShardAccount.opened(it, Position(1))
    meet(it.completion, 1, "delivered")
    account.close(it, Position(1))
    assert ledger([account]) == {"pending_at_signal": 0, "appended": 1, "completed": 1, "parked": 0, "dead": 0, "in_journal": 0}


def test_a_sum_that_does_not_add_up_is_said_not_to_balance() -> None:
    it = tenure()
    account = ShardAccount.opened(it, Position(4))
    account.close(it, Position(4))
    account.tally.completed += 1
    assert not balances(ledger([account]))


def fields(value: object) -> set[str]:
    """The names of all fields, however deep."""
    if isinstance(value, list):
        return {name for one in value for name in fields(one)}
    return set(value) | fields(list(value.values())) if isinstance(value, dict) else set()


def words_of_the_document() -> set[str]:
    document = (Path(__file__).parents[2] / "docs" / "shutdown.md").read_text(encoding="utf-8")
    named = re.findall("`([^`]*)`", document.partition("## The report")[2].partition("\n## ")[0])
    return {word for name in named for word in name.split(".")} | {name.partition("[")[0] for name in named}


def test_the_report_has_the_contracts_fields_in_the_contracts_order() -> None:
    it = tenure()
    account = ShardAccount.opened(it, Position(3))
    account.close(it, Position(3))
    account.released_to, account.is_released, account.held_after_signal_ms = OwnerId("b"), True, 12
    report = drain_report(
        Departure(
            reason="deployment",
            reason_source="membership",
            signal="SIGTERM",
            signals_seen=1,
            task_arn="arn:x",
            family="f",
            revision=3,
            successor=OwnerId("b"),
            budget_s=110,
        ),
        Leavings(
            phases=[PhaseTime(name="drain", ms=5, cut=False)],
            accounts=[account],
            at_signal={"buffered": 0, "in_flight": 0, "retry_queue": 0, "oldest_age_s": 0.0, "journal_backlog": 0},
            during={"accepted": 0, "refused": 0, "delivered": 0, "failed": 0},
            spilled={"events": 0, "webhooks": 0, "unconfirmed": 0},
            receipts={"sent": 3, "handed_over": 1},
            stuck=[{"task": "deliver", "state": "pipeline.py:1"}],
            loop_lag_max_ms=1,
            undurable_ids=[],
        ),
        exit_code=0,
    )
    asked = "reason reason_source signal signals_seen task_arn family revision successor budget_s phases at_signal during spilled receipts"
    asked += " shards stuck loop_lag_max_ms undurable_ids ledger exit_code"
    assert [name for name in report if name in asked.split()] == asked.split()
    assert report["shards"] == [{"shard": 2, "token": 9, "released_to": "b", "released": True, "held_after_signal_ms": 12}]
    assert report["receipts"] == {"sent": 3, "handed_over": 1}
    assert report["balances"] is True
    assert fields(report) - words_of_the_document() == {"event"}


@pytest.mark.parametrize(
    ("more", "exit_code", "line"),
    [
        ({}, 0, "stopped in 2.6 s: 5 delivered, 2 parked, nothing lost, exit 0"),
        (
            {"dead": 1, "in_journal": 3},
            75,
            "stopped in 2.6 s: 5 delivered, 2 parked, 1 dead letters, 3 left in the journal, nothing lost, exit 75",
        ),
        (
            {"waiting": 207},
            0,
            "stopped in 2.6 s: 5 delivered, 2 parked, 207 wait for a retry from before, nothing lost, exit 0",
        ),
        ({}, 70, "stopped in 2.6 s: 5 delivered, 2 parked, not all of it proved durable: see the log above, exit 70"),
    ],
)
def test_the_report_in_words_says_what_became_of_everything(more: dict[str, int], exit_code: int, line: str) -> None:
    report = {
        "phases": [{"name": "drain", "ms": 2_576, "cut": False}, {"name": "handover", "ms": 24, "cut": False}],
        "at_signal": {"retry_queue": more.pop("waiting", 0)},
        "during": {"delivered": 5},
        "ledger": {"parked": 2, "dead": 0, "in_journal": 0, **more},
        "exit_code": exit_code,
    }
    assert in_words(report) == line


TOLD = {"reason": "scale_in", "during": {"delivered": 2}, "receipts": {"sent": 3, "handed_over": 1}, "exit_code": 0}
KEPT = KeptReport(at="2026-11-22T07:45:38.120Z", owner="a", report={**TOLD, "phases": [{"ms": 4}, {"ms": 3}]})


def test_in_few_words_a_report_is_when_who_why_how_long_and_how_it_ended() -> None:
    assert summary(KEPT) == {"at": KEPT.at, "owner": "a", "ms": 7, **TOLD}


def test_a_report_of_another_release_is_read_as_far_as_it_can_be() -> None:
    assert kept_report(orjson.dumps({"at": KEPT.at, "owner": "a", "report": KEPT.report, "of_next_year": 1})) == KEPT
    assert summary(KeptReport(at="", owner="", report={"phases": [{}]})) == {"at": "", "owner": "", "ms": 0}


@pytest.mark.parametrize("entry", [b"", b"7", b"[]", b"{}", b'{"at": 1, "owner": 2}', b'{"at": 1, "owner": 2, "report": 3}'])
def test_what_is_no_report_is_none(entry: bytes) -> None:
    assert kept_report(entry) is None
