"""What only baileys-acessuswpp's stream has: receipts, resuming, and what it keeps for whoever was away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import cycle

import anyio
import orjson
import pytest

from tests.contract.connection_worlds import (
    KEY,
    NAME,
    PATIENCE_S,
    FakeWorld,
    assert_tells_nothing,
    bodies,
    config,
    frames,
    instance,
    opened,
    until_closed,
    world,
)
from tests.contract.hostile_endpoint import Behaviour, Connection, endpoint
from worker.adapters.sockets.baileys import RECEIPTS_PER_CALL
from worker.domain.ids import EventKey
from worker.fake_gateway.baileys_events import KEPT_ACKNOWLEDGED, BaileysStream
from worker.gateways import GATEWAYS
from worker.gateways.port import Push, finish
from worker.websocket.port import MAX_FRAME_BYTES, CloseReason, ConnectionClosed, Frame

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here() -> AsyncIterator[FakeWorld]:
    async with world("baileys") as made:
        yield made


def store(here: FakeWorld) -> BaileysStream:
    stream = here.fake.stream
    assert isinstance(stream, BaileysStream)
    return stream


async def quiet(here: FakeWorld, after: str | None = None) -> list[Frame]:
    """All that a new connection gets before something new happens."""
    connection = await here.connect(after)
    await here.until_readers(1)
    last = here.emit()[0]
    found: list[Frame] = []
    while not found or found[-1].body != last:
        found += await frames(connection, 1)
    await connection.close()
    await here.until_readers(0)
    return found[:-1]


# ─── receipts ───


async def test_a_receipt_ends_what_is_owed_and_may_be_repeated(here: FakeWorld) -> None:
    connection = await here.connect()
    here.emit(5)
    ids = [str(frame.event_id) for frame in await frames(connection, 5)]
    assert store(here).unacknowledged(NAME) == ids
    assert await connection.acknowledge(ids[:3]) == 3
    assert store(here).unacknowledged(NAME) == ids[3:]
    assert await connection.acknowledge(ids[:4]) == 4
    assert await connection.acknowledge([*ids, "of-another-life"]) == 5
    assert await connection.acknowledge([]) == 0
    assert store(here).unacknowledged(NAME) == []
    await connection.close()


async def test_many_receipts_take_several_calls(here: FakeWorld) -> None:
    connection = await here.connect()
    here.emit(2 * RECEIPTS_PER_CALL + 1)
    ids = [str(frame.event_id) for frame in await frames(connection, 2 * RECEIPTS_PER_CALL + 1)]
    await connection.acknowledge(ids)
    assert store(here).unacknowledged(NAME) == []
    assert here.fake.requests[f"POST /instances/{NAME}/events/ack"] == 3
    await connection.close()


async def test_receipts_may_be_sent_while_somebody_receives(here: FakeWorld) -> None:
    connection = await here.connect()
    sent = here.emit(100)
    found: list[Frame] = []
    async with anyio.create_task_group() as group:
        for _ in range(100):
            found += await frames(connection, 1)
            group.start_soon(connection.acknowledge, [str(found[-1].event_id)])
    assert bodies(found) == sent
    assert store(here).unacknowledged(NAME) == []
    await connection.close()


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("status", 401, CloseReason.UNAUTHORIZED),
        ("status", 404, CloseReason.UNKNOWN_INSTANCE),
        ("status", 429, CloseReason.REFUSED),
        ("status", 500, CloseReason.REFUSED),
        ("reset", 0, CloseReason.REFUSED),
        ("garbage", 0, CloseReason.PROTOCOL),
    ],
)
async def test_a_receipt_that_was_refused_is_told(here: FakeWorld, kind: str, status: int, reason: CloseReason) -> None:
    connection = await here.connect()
    here.fake.trouble("POST */events/ack", kind, **({"status": status} if status else {}))
    with pytest.raises(ConnectionClosed) as refused:
        await connection.acknowledge(["one"])
    assert refused.value.reason is reason
    assert KEY not in str(refused.value)
    assert "://" not in str(refused.value)
    await connection.acknowledge(["one"])
    sent = here.emit()
    assert bodies(await frames(connection, 1)) == sent, "the stream goes on"
    await connection.close()


# ─── who was away ───


async def test_nothing_that_was_not_acknowledged_is_missed(here: FakeWorld) -> None:
    """The stream alone repeats the newest 200."""
    sent = here.emit(1_234)
    assert bodies(await quiet(here)) == sent


async def test_what_was_acknowledged_does_not_come_again_but_for_the_newest(here: FakeWorld) -> None:
    connection = await here.connect()
    here.emit(300)
    ids = [str(frame.event_id) for frame in await frames(connection, 300)]
    await connection.acknowledge(ids)
    await connection.close()
    await here.until_readers(0)
    assert [frame.event_id for frame in await quiet(here)] == ids[-200:]


async def test_after_a_known_event_only_what_is_newer_or_owed_comes(here: FakeWorld) -> None:
    connection = await here.connect()
    here.emit(150)
    ids = [str(frame.event_id) for frame in await frames(connection, 150)]
    await connection.acknowledge(ids[1:])
    await connection.close()
    await here.until_readers(0)
    assert [frame.event_id for frame in await quiet(here, after=ids[99])] == [ids[0], *ids[100:]]


@pytest.mark.parametrize("after", ["of-another-life", "two\r\nlines", "", "ü" * 500])
async def test_an_event_that_the_broker_does_not_know_begins_with_what_it_has(here: FakeWorld, after: str) -> None:
    sent = here.emit(20)
    assert bodies(await quiet(here, after)) == sent


async def test_a_broker_that_was_restarted_knows_nothing_and_goes_on(here: FakeWorld) -> None:
    connection = await here.connect()
    here.emit(10)
    last = (await frames(connection, 10))[-1]
    here.fake.close_streams(NAME)
    assert (await until_closed(connection))[1].reason is CloseReason.SERVER_LEFT
    store(here).forget()
    again = await here.connect(after=last.event_id)
    sent = here.emit(3)
    assert bodies(await frames(again, 3)) == sent
    await again.acknowledge([str(last.event_id)])
    await again.close()


async def test_what_is_sent_while_the_past_is_listed_comes_once_and_after_it(here: FakeWorld) -> None:
    past = here.emit(1_000)
    connection = await here.connect()
    await here.until_readers(1)
    found = await frames(connection, 100)
    now = here.emit(50)
    found += await frames(connection, 950)
    assert bodies(found) == [*past, *now]
    later = here.emit()
    assert bodies(await frames(connection, 1)) == later
    await connection.close()


async def test_listing_survives_cancellation(here: FakeWorld) -> None:
    sent = here.emit(900)
    connection = await here.connect()
    found: list[Frame] = []
    patience_s = cycle((0, 0.0001, 0.001, 0.003, PATIENCE_S))
    while len(found) < 900:
        with anyio.move_on_after(next(patience_s)):
            if (frame := await connection.receive()) is not None:
                found.append(frame)
    assert bodies(found) == sent
    await connection.close()


async def test_a_listed_event_is_the_same_event_as_the_streamed_one(here: FakeWorld) -> None:
    here.fake.emit(NAME, 40)
    listed = await quiet(here)
    connection = await here.connect()
    await connection.acknowledge(store(here).unacknowledged(NAME))
    await connection.close()
    ids = {frame.event_id for frame in listed}
    streamed = [frame for frame in await quiet(here) if frame.event_id in ids]
    assert bodies(listed) != bodies(streamed), "acknowledged by now"
    assert [key_of(frame) for frame in listed] == [key_of(frame) for frame in streamed]
    assert len({key_of(frame) for frame in listed}) == 40


def key_of(frame: Frame) -> EventKey:
    one, *more = GATEWAYS["baileys"].decode(Push(body=frame.body))
    assert not more
    return finish(one, instance("baileys"), "2026-11-22T07:45:38.120Z", "sse", lambda: pytest.fail("it has an identity")).event_key


async def test_the_newest_that_were_acknowledged_are_kept_and_no_more(here: FakeWorld) -> None:
    """Of the fake, as the source has it."""
    connection = await here.connect()
    here.emit(KEPT_ACKNOWLEDGED + 100)
    ids = [str(frame.event_id) for frame in await frames(connection, KEPT_ACKNOWLEDGED + 100)]
    await connection.acknowledge(ids)
    await connection.acknowledge(ids)
    assert len(store(here)) == KEPT_ACKNOWLEDGED
    await connection.close()


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_is_no_name_is_unknown(here: FakeWorld, name: str) -> None:
    with pytest.raises(ConnectionClosed) as refused:
        await here.connector.connect(instance("baileys", name), after=None, timeout_s=PATIENCE_S)
    assert refused.value.reason is CloseReason.UNKNOWN_INSTANCE


@pytest.mark.parametrize(("kind", "reason"), [("status", CloseReason.REFUSED), ("reset", CloseReason.REFUSED)])
async def test_a_list_that_fails_at_the_beginning_is_no_connection(here: FakeWorld, kind: str, reason: CloseReason) -> None:
    here.fake.trouble("GET */events", kind)
    with pytest.raises(ConnectionClosed) as refused:
        await here.connect()
    assert refused.value.reason is reason
    assert_tells_nothing(refused.value)
    await here.until_readers(0)


async def test_a_list_that_fails_later_is_asked_again(here: FakeWorld) -> None:
    sent = here.emit(500)
    connection = await here.connect()
    found = await frames(connection, 200)
    here.fake.trouble("GET */events", "status", status=503)
    with pytest.raises(ConnectionClosed) as refused:
        await connection.receive()
    assert refused.value.reason is CloseReason.REFUSED
    found += await frames(connection, 300)
    assert bodies(found) == sent
    await connection.close()


async def test_a_backlog_of_large_events_comes_in_smaller_pages(here: FakeWorld) -> None:
    """A page is at most 8 MiB; 200 of these are 20."""
    stream, sent = store(here), list[bytes]()
    for number in range(200):
        body = orjson.dumps({"event": "MESSAGE_INBOUND", "payload": {"n": number, "text": "x" * 100_000}})
        sent.append(stream.emit(NAME, body).body)
    assert bodies(await quiet(here)) == sent


async def test_an_event_too_large_to_be_taken_is_left_out_and_stays_unacknowledged(here: FakeWorld) -> None:
    """Between the largest frame and the largest answer."""
    before = here.emit(3)
    giant = orjson.dumps({"event": "MESSAGE_INBOUND", "payload": {"text": "x" * (5 << 20)}})
    left_out = store(here).emit(NAME, giant)
    after = here.emit(500)
    assert bodies(await quiet(here)) == [*before, *after]
    assert left_out.id in store(here).unacknowledged(NAME)


@pytest.mark.parametrize("said", ['{"events": 7}', "[]", "{}", "<html>"])
async def test_a_list_that_is_none_is_no_connection(here: FakeWorld, said: str) -> None:
    here.fake.trouble("GET */events", "garbage", body=said)
    with pytest.raises(ConnectionClosed) as refused:
        await here.connect()
    assert refused.value.reason is CloseReason.PROTOCOL
    assert_tells_nothing(refused.value)
    await here.until_readers(0)


async def test_what_has_no_id_in_a_list_is_passed_over(here: FakeWorld) -> None:
    here.fake.trouble("GET */events", "garbage", body='{"events": [7, {}, {"id": 7}, {"id": "a"}]}', times=None)
    connection = await here.connect()
    assert [frame.event_id for frame in await frames(connection, 1)] == ["a"]
    await connection.close()


async def test_a_receipt_that_is_not_confirmed_was_not_taken(here: FakeWorld) -> None:
    connection = await here.connect()
    here.fake.trouble("POST */events/ack", "garbage", body="{}")
    with pytest.raises(ConnectionClosed) as refused:
        await connection.acknowledge(["one"])
    assert refused.value.reason is CloseReason.PROTOCOL
    await connection.close()


async def test_an_event_too_large_for_any_page_does_not_stop_the_stream(here: FakeWorld) -> None:
    giant = orjson.dumps({"event": "MESSAGE_INBOUND", "payload": {"text": "x" * (9 << 20)}})
    store(here).emit(NAME, giant)
    sent = here.emit(5)
    assert bodies(await quiet(here)) == sent


async def test_a_larger_event_is_left_with_the_broker_and_stops_nobody(here: FakeWorld) -> None:
    """It would come again with every connection, and nothing behind it ever would."""
    connection = await here.connect()
    await here.until_readers(1)
    here.fake.streams.tell(NAME, "large", b"x" * (MAX_FRAME_BYTES + 1))
    sent = here.emit(2)
    assert bodies(await frames(connection, 2)) == sent
    await connection.close()


# ─── leaving ───


@pytest.mark.parametrize("is_tls", [False, True])
async def test_what_leaving_did_not_give_comes_to_whoever_reads_next(is_tls: bool) -> None:
    async with world("baileys", is_tls=is_tls) as here:
        connection = await here.connect()
        sent = here.fake.emit(NAME, 700)
        found = await frames(connection, 10)
        await connection.leave()
        rest, _ = await until_closed(connection)
        found += rest
        await connection.acknowledge([str(frame.event_id) for frame in found])
        await connection.close()
        await here.until_readers(0)
        later = await quiet(here)
        assert {frame.event_id for frame in [*found, *later]} == {event.id for event in sent}


# ─── servers that have their own idea of a stream ───


def streaming(*chunks: bytes, ends: bool = True) -> Behaviour:
    """Its list is empty; its stream says this."""

    async def behave(connection: Connection) -> None:
        while True:
            heard = await connection.hear()
            if b"/events" in heard.request_line:
                await connection.say(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"events":[]}')
                continue
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
            for chunk in chunks:
                await connection.say(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if ends:
                await connection.say(b"0\r\n\r\n")
            return

    return behave


@pytest.mark.parametrize(("ends", "reason"), [(True, CloseReason.SERVER_LEFT), (False, CloseReason.BROKEN)])
async def test_how_a_stream_ends_and_what_came_before(ends: bool, reason: CloseReason) -> None:
    said = b"retry: 5000\n\n", b"id: 1\ndata: {}\n\nda", b"ta: half", b"\n"
    async with endpoint(streaming(*said, ends=ends)) as server:
        connector = opened(config("baileys", f"http://127.0.0.1:{server.port}"))
        connection = await connector.connect(instance("baileys"), after=None, timeout_s=PATIENCE_S)
        found, closed = await until_closed(connection)
        assert (found, closed.reason) == ([Frame(b"{}", "1")], reason)
        assert closed.retry_after_s == (5.0 if ends else None)
        await connector.close()


async def test_a_body_that_is_packed_is_refused() -> None:
    async def packed(connection: Connection) -> None:
        await connection.hear()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n")

    async with endpoint(packed) as server:
        connector = opened(config("baileys", f"http://127.0.0.1:{server.port}"))
        with pytest.raises(ConnectionClosed) as refused:
            await connector.connect(instance("baileys"), after=None, timeout_s=PATIENCE_S)
        assert refused.value.reason is CloseReason.PROTOCOL
        await connector.close()
