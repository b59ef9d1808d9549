"""Logs: one JSON line per record, nobody waits for a reader, and the drain report always gets through."""

from __future__ import annotations

import json
import logging
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from worker.logs import LINE_BYTES, QUEUE_LINES, Lines, Seldom, emit_report, set_up


@contextmanager
def a_pipe() -> Iterator[tuple[int, Lines]]:
    read_end, write_end = os.pipe()
    lines = Lines(write_end)
    try:
        yield read_end, lines
    finally:
        os.close(read_end)
        lines.close()  # before its descriptor goes: a thread that still writes would write into whatever gets the number next
        os.close(write_end)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def read_records(read_end: int) -> list[dict[str, object]]:
    return [json.loads(line) for line in os.read(read_end, 1 << 20).decode().splitlines()]


def test_a_record_is_one_json_line_whoever_logged_it() -> None:
    with a_pipe() as (read_end, lines):
        lines.start()
        set_up(lines)
        structlog.get_logger("worker.x").info("something moved", shard=3, text="two\nlines")
        logging.getLogger("aiohttp").warning("careful with %s", "this")
        assert lines.flush()
        ours, theirs = read_records(read_end)
        lines.close()
    assert (ours["message"], ours["shard"], ours["text"], ours["level"], ours["logger"]) == (
        "something moved",
        3,
        "two\nlines",
        "info",
        "worker.x",
    )
    assert (theirs["message"], theirs["logger"]) == ("careful with this", "aiohttp")


def test_a_traceback_shows_no_locals() -> None:
    with a_pipe() as (read_end, lines):
        lines.start()
        set_up(lines)
        try:
            fails_with("5511900000001")
        except ValueError:
            structlog.get_logger("worker.x").exception("attempt broke")
        assert lines.flush()
        told = os.read(read_end, 1 << 20).decode()
        lines.close()
    assert "ValueError" in told
    assert "5511900000001" not in told


def fails_with(phone: str) -> None:
    assert phone
    raise ValueError


def test_a_record_that_cannot_be_rendered_is_told_and_breaks_nothing() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError

    with a_pipe() as (read_end, lines):
        lines.start()
        set_up(lines)
        structlog.get_logger("worker.x").info("odd", value=Unprintable())
        assert lines.flush()
        (told,) = read_records(read_end)
        lines.close()
    assert told["message"] == "unreadable log record"


def test_a_full_queue_drops_and_counts_and_says_so_once_it_moves_again() -> None:
    with a_pipe() as (read_end, lines):
        for number in range(QUEUE_LINES + 7):
            lines.put(f'{{"n": {number}}}')
        assert lines.statistics() == {"queued": QUEUE_LINES, "dropped": 7}
        lines.start()
        text = ""
        while text.count("\n") < QUEUE_LINES + 1:
            text += os.read(read_end, 1 << 20).decode()
        records: list[dict[str, object]] = [json.loads(line) for line in text.splitlines()]
        lines.close()
    assert [r["n"] for r in records if "n" in r] == list(range(QUEUE_LINES))
    assert [r["dropped"] for r in records if "dropped" in r] == [7]


def test_the_report_gets_through_a_full_queue_after_everything_before_it() -> None:
    with a_pipe() as (read_end, lines):
        for number in range(QUEUE_LINES):
            lines.put(str(number))
        lines.put(json.dumps({"message": "drain report", "signals_seen": 1}), must=True)
        lines.start()
        text = ""
        while "signals_seen" not in text:
            text += os.read(read_end, 1 << 20).decode()
        lines.close()
    assert text.splitlines()[-2:] == [str(QUEUE_LINES - 1), '{"message": "drain report", "signals_seen": 1}']


def test_the_report_is_one_json_line() -> None:
    with a_pipe() as (read_end, lines):
        lines.start()
        assert emit_report(lines, {"signals_seen": 2, "phases": [{"name": "PREPARE", "ms": 1, "cut": False}]}, in_words="stopped")
        (report,) = read_records(read_end)
        lines.close()
    assert report["signals_seen"] == 2


def test_on_a_terminal_the_report_comes_in_words_first_and_the_footer_is_gone() -> None:
    ours, theirs = pty.openpty()
    lines = Lines(theirs)
    lines.start()
    lines.footer("the live line")
    lines.flush()
    assert emit_report(lines, {"signals_seen": 2}, in_words="stopped in 2.6 s")
    shown = os.read(ours, 1 << 16).decode()
    lines.close()
    os.close(ours)
    os.close(theirs)
    assert shown == 'the live line\r\x1b[2Kstopped in 2.6 s\r\n{"message":"drain report","signals_seen":2}\r\n'


def test_nobody_waits_for_a_reader_that_does_not_read() -> None:
    with a_pipe() as (_, lines):
        lines.start()
        for _ in range(QUEUE_LINES // 2):
            lines.put("x" * 100)  # far beyond what a pipe holds
        assert not lines.flush(deadline_s=0.05)
        assert lines.statistics()["dropped"] == 0


def test_a_reader_that_has_gone_ends_nothing() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    lines = Lines(write_end)
    lines.start()
    lines.put("into the void")
    assert lines.flush()
    assert lines.dropped == 1
    lines.close()
    os.close(write_end)


def test_one_line_is_cut_at_its_limit() -> None:
    with a_pipe() as (read_end, lines):
        lines.put("y" * (LINE_BYTES * 2))
        lines.start()
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(read_end, 1 << 20)
        lines.close()
    assert len(text.decode()) == LINE_BYTES + 2


def test_on_a_terminal_the_footer_stands_below_the_last_line() -> None:
    ours, theirs = pty.openpty()
    lines = Lines(theirs)
    lines.start()
    lines.footer("two\nlines")
    assert lines.flush()
    lines.put("a record")
    assert lines.flush()
    lines.footer("")
    assert lines.flush()
    erased = "\r\x1b[2K\x1b[1A\r\x1b[2K"
    wanted = f"two\r\nlines{erased}a record\r\ntwo\r\nlines{erased}"
    shown = ""
    while len(shown) < len(wanted):  # a terminal hands over piece by piece
        shown += os.read(ours, 4096).decode()
    lines.close()
    os.close(ours)
    os.close(theirs)
    assert shown == wanted


def test_a_pipe_has_no_footer() -> None:
    with a_pipe() as (read_end, lines):
        lines.start()
        lines.footer("live")
        lines.put("a record")
        assert lines.flush()
        assert os.read(read_end, 4096) == b"a record\n"
        lines.close()


def test_what_loops_say_while_the_store_is_away_is_said_every_ten_seconds_with_how_often() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    assert seldom(None, "warning", {"event": "journal_not_read"}) == {"event": "journal_not_read"}
    for _ in range(7):
        with pytest.raises(structlog.DropEvent):
            seldom(None, "warning", {"event": "journal_not_read"})
    assert seldom(None, "warning", {"event": "retry_queue_not_read"}) == {"event": "retry_queue_not_read"}
    now[0] = 10.0
    assert seldom(None, "warning", {"event": "journal_not_read"}) == {"event": "journal_not_read", "left_out": 7}


def test_what_happens_once_is_always_said() -> None:
    seldom = Seldom(lambda: 0.0)
    assert [seldom(None, "warning", {"event": "dead_letter"}) for _ in range(3)] == [{"event": "dead_letter"}] * 3
