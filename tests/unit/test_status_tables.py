"""What `whatsapp-worker status` shows of the page `/status`: which tables, which columns, which cells."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from worker.commands.status_tables import Section, plain, seconds, sections, size, tables

ARN = "arn:aws:ecs:sa-east-1:111122223333:task/default/158d1c80"
A_ROW = {"shard": 0, "owner": "host-1-aa", "token": 1795378301473452, "validForS": 8.851, "since": "2026-11-22T20:11:41.488Z"}
ELSEWHERE = {"token": None, "validForS": None, "since": None, "heldForS": None}
PAGE: dict[str, Any] = {
    "process": {"index": 1, "of": 2, "pid": 77, "version": "1.2.3", "uptime_s": 200.4, "cpu_s": 61.0, "memory_peak_bytes": 85_961_728},
    "ecs": {"arn": ARN, "clock_error_ms": 0.483},
    "loop_lag_ms": 4,
    "loop_lag_max_ms": 54,
    "registry": {"role": "draining", "owner": "host-1-aa", "shards": [A_ROW]},
    "shutdown": {"phase": "drain"},
    "workers": [
        {"owner": "host-2-bb", "task": ARN, "family": "worker", "revision": 8, "zone": "sa-east-1a", "ready": True, "draining": False,
         "shards": 1, "me": False},
        {"owner": "host-1-aa", "task": "host-1", "family": "", "revision": 0, "zone": "", "ready": True, "draining": True, "shards": 1,
         "me": True},
        {"owner": "host-3-cc", "task": "host-3", "family": "", "revision": 0, "zone": "", "ready": False, "draining": False, "shards": 0,
         "me": False},
    ],
    "shards": [A_ROW, {"shard": 1, "owner": "host-2-bb", **ELSEWHERE}, {"shard": 2, "owner": None, **ELSEWHERE}],
    "brokers": [
        {"id": "main", "gateway": "waha", "circuit": "closed", "failures_in_row": 0, "last_cause": None},
        {"id": "spare", "gateway": "baileys", "circuit": "open", "failures_in_row": 5, "last_cause": "connect"},
    ],
    "sockets": {"sessions": 1_200, "by_state": {"reading": 1_199, "connecting": 1}, "behind": ["x", "y"],
                "gaps": {"count": 1, "worst": [{"instance": "acme-sales", "seconds": 23.082, "reason": "broken"}]}},
    "ingest": {"events": 12_345, "duplicates": 3, "refused": 0},
    "door": {"state": "open", "waiting_events": 161, "max_events": 1_000_000, "waiting_bytes": 185_955, "max_bytes": 1 << 30},
    "event_buffer": {"events": 2, "capacity_events": 10_000, "bytes": 2_310},
    "pipeline": {"in_flight": 7, "oldest_age_s": 0.25, "paused_webhooks": ["crm"], "disabled_webhooks": [],
                 "bulkheads": {"max_in_flight": 2_000, "webhooks_suspect": 1, "circuits_open": 1}},
    "settling": {"delivered": 12_000, "parked": 148, "dead": 1},
    "retry_queue": {"depth": 143},
    "journal": {"events_read": 12_345, "oldest_age_s": 0.0},
    "last_drain": {"at": "2026-11-22T19:00:00.000Z", "owner": "host-0-zz", "ms": 2_600, "reason": "deployment", "successor": "host-1-aa",
                   "during": {"delivered": 4}, "ledger": {"completed": 5}, "receipts": {"handed_over": 2}, "exit_code": 0},
}  # fmt: skip

SHOWN = {
    "worker": [
        ("role", "draining"),
        ("owner", "host-1-aa"),
        ("shutdown", "drain"),
        ("version", "1.2.3"),
        ("process id", "77"),
        ("up", "3 min 20 s"),
        ("cpu time", "1 min 1 s"),
        ("memory at most", "82.0 MiB"),
        ("loop lag, last 15 to 30 s", "4 ms"),
        ("loop lag at worst", "54 ms"),
        ("clock error at most", "0.483 ms"),
        ("process", "1 of 0 to 1"),
    ],
    "workers": [
        ("", "host-2-bb", "158d1c80", "worker", "8", "sa-east-1a", "ready", "1"),
        ("*", "host-1-aa", "host-1", "-", "-", "-", "draining", "1"),
        ("", "host-3-cc", "host-3", "-", "-", "-", "starting", "0"),
    ],
    "shards": [
        ("0", "host-1-aa", "1795378301473452", "2026-11-22T20:11:41.488Z", "8.9 s"),
        ("1", "host-2-bb", "-", "-", "-"),
        ("2", "-", "-", "-", "-"),
    ],
    "brokers": [("main", "waha", "closed", "0", "-"), ("spare", "baileys", "open", "5", "connect")],
    "sockets": [
        ("sessions", "1,200"),
        ("by state reading", "1,199"),
        ("by state connecting", "1"),
        ("behind", "2"),
        ("gaps count", "1"),
        ("gaps worst", "instance acme-sales, seconds 23.082, reason broken"),
    ],
    "buffers and pipeline": [
        ("accepted", "12,345"),
        ("duplicates", "3"),
        ("refused", "0"),
        ("door", "open"),
        ("events in memory", "2 of 10,000"),
        ("bytes in memory", "2.3 KiB"),
        ("attempts under way", "7 of 2,000"),
        ("oldest event under way", "0.2 s"),
        ("delivered", "12,000"),
        ("suspect webhooks", "1"),
        ("open circuits", "1"),
        ("paused webhooks", "crm"),
        ("disabled webhooks", "none"),
    ],
    "retries and journal": [
        ("waiting for a retry", "143"),
        ("parked", "148"),
        ("dead letters", "1"),
        ("read from the journal", "12,345"),
        ("oldest neither delivered nor parked", "0.0 s"),
        ("undelivered in the store", "161 of 1,000,000"),
        ("bytes of them", "181.6 KiB of 1.0 GiB"),
    ],
    "last drain": [
        ("at", "2026-11-22T19:00:00.000Z"),
        ("owner", "host-0-zz"),
        ("reason", "deployment"),
        ("successor", "host-1-aa"),
        ("took", "2.6 s"),
        ("during delivered", "4"),
        ("ledger completed", "5"),
        ("receipts handed over", "2"),
        ("exit code", "0"),
    ],
}


def test_every_table_has_these_cells() -> None:
    assert {section.title: section.rows for section in sections(PAGE)} == SHOWN


def test_the_tables_of_many_things_name_their_columns() -> None:
    columns = {section.title: section.columns for section in sections(PAGE)}
    assert columns["workers"] == ("", "owner", "task", "family", "revision", "zone", "state", "shards")
    assert columns["shards"] == ("shard", "owner", "token", "since", "valid for")


def test_a_worker_that_only_starts_shows_what_it_knows() -> None:
    [worker] = sections({"process": {"pid": 7}, "loop_lag_ms": 0})
    assert worker.rows == [("role", "starting"), ("process id", "7"), ("loop lag, last 15 to 30 s", "0 ms")]


def test_plain_text_is_a_line_per_row_in_columns() -> None:
    text = plain([Section("shards", ("shard", "owner"), [("0", "host-1-aa"), ("10", "-")]), Section("sockets", ("what",), [("none",)])])
    assert text == "shards\nshard  owner\n0      host-1-aa\n10     -\n\nsockets\nwhat\nnone"


def drawn(width: int, *, colours: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, no_color=not colours, highlight=False, legacy_windows=False)
    console.print(tables(sections(PAGE)))
    return out.getvalue()


def test_a_terminal_shows_every_cell() -> None:
    text = drawn(100, colours=True)
    for section in sections(PAGE):
        assert section.title in text
        for row in section.rows:
            assert any(all(cell in line for cell in row) for line in text.splitlines()), row


def test_without_colours_there_are_none() -> None:
    assert "\x1b[3" not in drawn(100, colours=False)


@pytest.mark.parametrize("width", [20, 40, 79])
def test_a_narrow_terminal_folds_and_cuts_nothing(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, highlight=False)
    console.print(tables([*sections(PAGE), Section("long", ("x", "y"), [("X" * 70, "Y" * 90)])]))
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert (out.getvalue().count("X"), out.getvalue().count("Y")) == (70, 90)


def test_what_a_name_holds_is_shown_as_it_is_and_not_as_markup() -> None:
    page = {**PAGE, "workers": [{**PAGE["workers"][0], "owner": "[red]host[/red]"}]}
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=True, highlight=False).print(tables(sections(page)))
    assert "[red]host[/red]" in out.getvalue()


TIMES = [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3_599, "59 min 59 s"), (7_500, "2 h 5 min"), (375_000, "4 d 8 h")]
SIZES = [(0, "0 B"), (1_023, "1023 B"), (2_310, "2.3 KiB"), (64 << 20, "64.0 MiB"), (5 << 40, "5120.0 GiB")]


@pytest.mark.parametrize(("value", "words"), TIMES)
def test_times_are_written_for_people(value: float, words: str) -> None:
    assert seconds(value) == words


@pytest.mark.parametrize(("value", "words"), SIZES)
def test_sizes_are_written_for_people(value: float, words: str) -> None:
    assert size(value) == words


@given(st.sets(st.sampled_from(sorted(PAGE))))
def test_whatever_a_worker_leaves_out_the_rest_is_shown(left_out: set[str]) -> None:
    shown = {section.title for section in sections({name: value for name, value in PAGE.items() if name not in left_out})}
    assert shown >= {name for name in ("workers", "shards", "sockets") if name not in left_out}
