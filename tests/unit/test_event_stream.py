"""`text/event-stream`, however it is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.adapters.sockets.sse import EventStream, StreamEvent

LIMIT = 1_000


def read(stream: bytes, *cuts: int) -> list[StreamEvent]:
    """The stream's events, fed piece by piece, cut at these places."""
    parser, places, found = EventStream(LIMIT), sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)}), list[StreamEvent]()
    for start, end in pairwise(places):
        found += parser.feed(stream[start:end])
    return found


def event(data: bytes | None, name: str = "message", id_: str | None = None) -> StreamEvent:
    return StreamEvent(name, data, id_)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"data: a\n\n", [event(b"a")]),
        (b"data:a\n\n", [event(b"a")]),
        (b"data:  a\n\n", [event(b" a")]),
        (b"data: a\r\n\r\n", [event(b"a")]),
        (b"data: a\r\r", [event(b"a")]),
        (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [event(b"a\nb"), event(b"c")]),
        (b"data: a\n\r\n", [event(b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [event(b"a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\ndata: b\ndata\ndata:\n\n", [event(b"a\nb\n\n")]),
        (b"data:\n\n", [event(b"")]),
        (b": a comment\n\n:\n\ndata: a\n\n", [event(b"a")]),
        (b"event: broker:event\nid: 7\ndata: a\n\n", [event(b"a", "broker:event", "7")]),
        (b"event: one\n\ndata: a\n\n", [event(b"a")]),
        (b"id: 7\n\ndata: a\n\ndata: b\n\n", [event(b"a", id_="7"), event(b"b", id_="7")]),
        (b"id: 7\ndata: a\n\nid\ndata: b\n\n", [event(b"a", id_="7"), event(b"b")]),
        (b"id: 7\0\ndata: a\n\n", [event(b"a")]),
        (b"unknown: x\nDATA: x\ndata: a\n\n", [event(b"a")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"data: \xc3\xa1\xff\n\n", [event(b"\xc3\xa1\xff")]),
        (b"data: a\x0bb\x0cc\x85d\n\n", [event(b"a\x0bb\x0cc\x85d")]),
    ],
)
def test_a_stream_is_read_as_the_standard_has_it(stream: bytes, events: list[StreamEvent]) -> None:
    assert read(stream) == events
    assert read(stream, *range(len(stream))) == events, "byte by byte"


PIECES = st.lists(
    st.sampled_from([
        b"data: a", b"data:", b"data", b"id: 7", b"id:", b"event: ping", b": hello", b"retry: 50", b"x", b"\n", b"\r", b"\r\n", b"\n\n",
        b"\xef\xbb\xbf", b"\0", b"\xff", b"data: " + b"y" * (LIMIT - 1), b"data: " + b"y" * (3 * LIMIT), b":" + b"z" * (3 * LIMIT),
    ]),
    max_size=40,
).map(b"".join)  # fmt: skip


@example(stream=b"data: a\r\ndata: b\r\n\r\n", cuts=[8])
@given(stream=PIECES, cuts=st.lists(st.integers(min_value=0), max_size=30))
def test_where_a_stream_is_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    assert read(stream, *cuts) == read(stream) == read(stream, *range(len(stream)))


@given(PIECES)
def test_a_stream_takes_no_more_memory_than_one_event(stream: bytes) -> None:
    parser = EventStream(LIMIT)
    for byte in stream:
        for found in parser.feed(bytes((byte,))):
            assert found.data is None or len(found.data) <= LIMIT
        assert len(parser._line) + len(parser._data) <= 2 * LIMIT + 2_048  # noqa: SLF001 - there is no other way to see it


LINES = st.lists(st.binary(max_size=40).filter(lambda line: not set(line) & set(b"\r\n")), min_size=1, max_size=5)


@given(st.lists(LINES, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(min_value=0), max_size=20))
def test_what_was_written_is_what_is_read(sent: list[list[bytes]], end: bytes, cuts: list[int]) -> None:
    stream = b"".join(
        b"".join((b"id: %d" % number, end, *(b"data: " + line + end for line in lines), end)) for number, lines in enumerate(sent)
    )
    assert read(stream, *cuts) == [event(b"\n".join(lines), id_=str(number)) for number, lines in enumerate(sent)]


def test_an_event_of_the_largest_size_is_whole_and_a_larger_one_is_gone() -> None:
    whole, larger = b"x" * LIMIT, b"x" * (LIMIT + 1)
    stream = b"data: %b\n\nid: 9\ndata: %b\n\ndata: a\n\n"
    assert read(stream % (whole, larger)) == [event(whole), event(None, id_="9"), event(b"a", id_="9")]


def test_an_event_too_long_in_all_its_lines_together_is_gone_and_the_next_is_not() -> None:
    stream = b"data: xxxx\n" * LIMIT + b"\n" + b"data: a\n\n"
    assert read(stream) == [event(None), event(b"a")]


def test_comments_and_unknown_fields_of_any_length_are_nothing() -> None:
    stream = b":" + b"x" * 10 * LIMIT + b"\n" + b"field: " + b"y" * 10 * LIMIT + b"\ndata: a\n\n"
    assert read(stream) == [event(b"a")]


def test_how_long_the_server_asks_to_wait_is_remembered() -> None:
    parser = EventStream(LIMIT)
    parser.feed(b"retry: 2500\nretry: soon\nretry: " + b"9" * 400 + b"\n\n")
    assert parser.retry_s == 2.5
