"""What `worker.websocket.port` says of a connection, over every adapter, against a gateway that sends as the real one does."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import orjson
import pytest

from tests.conftest import ASYNCIO, UVLOOP
from tests.contract.connection_worlds import (
    KEY,
    NAME,
    PATIENCE_S,
    WORLDS,
    World,
    assert_tells_nothing,
    bodies,
    frames,
    until_closed,
    world,
)
from worker.websocket.port import MAX_FRAME_BYTES, CloseReason, Connection, ConnectionClosed, Frame

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])]


@pytest.fixture(params=WORLDS)
async def here(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param]() as made:
        yield made


async def test_frames_come_whole_and_in_the_order_sent(here: World) -> None:
    connection = await here.connect()
    sent = here.emit(300)
    assert bodies(await frames(connection, 300)) == sent
    await connection.close()


async def test_a_frame_says_what_a_receipt_is_to_name(here: World) -> None:
    connection = await here.connect()
    sent = here.send(3)
    ids = [frame.event_id for frame in await frames(connection, 3)]
    assert ids == ([event.id for event in sent] if here.connector.wants_receipts else [None] * 3)
    await connection.close()


async def test_a_receive_that_was_cancelled_loses_nothing(here: World) -> None:
    """A storm of cancellations, at every moment that there is."""
    connection, chance, sent, found = await here.connect(), random.Random(7), list[bytes](), list[Frame]()

    async def sending() -> None:
        for _ in range(200):
            sent.extend(here.emit(chance.randrange(1, 4)))
            await anyio.sleep(chance.choice((0, 0, 0.0005)))  # noqa: TID251 - not waiting: a pace

    async def receiving() -> None:
        while len(found) < len(sent) or len(sent) < 200:
            with anyio.move_on_after(chance.choice((0, 0.0001, 0.0005, 0.002))):
                if (frame := await connection.receive()) is not None:
                    found.append(frame)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(sending)
            group.start_soon(receiving)
    found += await frames(connection, len(sent) - len(found))
    assert bodies(found) == sent
    await connection.close()


async def test_a_receive_whose_task_is_cancelled_as_a_frame_arrives_loses_nothing(here: World) -> None:
    connection, found, sent = await here.connect(), list[Frame](), list[bytes]()

    async def once() -> None:
        if (frame := await connection.receive()) is not None:
            found.append(frame)

    with anyio.fail_after(PATIENCE_S):
        for turns in range(120):
            async with anyio.create_task_group() as group:
                group.start_soon(once)
                sent += here.emit()
                for _ in range(turns % 12):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
    found += await frames(connection, len(sent) - len(found))
    assert bodies(found) == sent
    await connection.close()


async def test_leaving_gives_what_was_sent_before_and_then_ends(here: World) -> None:
    connection = await here.connect()
    sent = here.emit(50)
    await connection.leave()
    await connection.leave()
    found, closed = await until_closed(connection)
    assert closed.reason is CloseReason.LEFT
    if here.may_keep_the_rest:
        assert bodies(found) == sent[: len(found)], "what has not arrived was never acknowledged, and comes again"
    else:
        assert bodies(found) == sent
    with pytest.raises(ConnectionClosed) as again:
        await connection.receive()
    assert again.value.reason is CloseReason.LEFT
    await connection.close()


async def test_what_the_gateway_sends_until_it_has_heard_the_goodbye_is_given_too(here: World) -> None:
    connection, sent = await here.connect(), list[bytes]()

    async def sending() -> None:
        with anyio.fail_after(PATIENCE_S):
            while here.readers():
                sent.extend(event.body for event in here.send() if event.readers)
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(sending)
        found = await frames(connection, 5)
        await connection.leave()
        rest, closed = await until_closed(connection)
    assert closed.reason is CloseReason.LEFT
    read = bodies([*found, *rest])
    if here.may_keep_the_rest:
        assert read == sent[: len(read)]
    else:
        assert read == sent
    await connection.close()


async def test_after_leaving_a_gateway_that_says_nothing_more_is_not_waited_for(here: World) -> None:
    connection = await here.connect()
    await here.until_readers(1)
    here.silence()
    await connection.leave()
    found, closed = await until_closed(connection)
    assert (found, closed.reason) == ([], CloseReason.LEFT)
    await connection.close()


async def test_a_gateway_knows_that_we_have_left(here: World) -> None:
    connection = await here.connect()
    await here.until_readers(1)
    await connection.leave()
    await here.until_readers(0)
    await connection.close()


async def test_closing_twice_gives_back_everything(here: World) -> None:
    connection = await here.connect()
    await here.until_readers(1)
    await connection.close()
    await connection.close()
    await here.until_readers(0)
    with pytest.raises(ConnectionClosed) as closed:
        await connection.receive()
    assert closed.value.reason is CloseReason.LEFT


async def test_closing_a_silent_one_takes_a_second_at_most(here: World) -> None:
    connection = await here.connect()
    await here.until_readers(1)
    here.silence()
    with anyio.fail_after(PATIENCE_S):
        await connection.close()


async def test_whoever_receives_hears_that_it_was_closed(here: World) -> None:
    connection = await here.connect()
    async with anyio.create_task_group() as group:
        group.start_soon(until_closed, connection)
        await anyio.lowlevel.checkpoint()
        await connection.close()


async def test_closing_the_connector_closes_its_connections(here: World) -> None:
    one, two = await here.connect(), await here.connect()
    await here.until_readers(2)
    await here.connector.close()
    await here.until_readers(0)
    for connection in (one, two):
        with pytest.raises(ConnectionClosed):
            await connection.receive()
    with pytest.raises(ConnectionClosed) as stopping:
        await here.connect()
    assert stopping.value.reason is CloseReason.REFUSED


async def test_two_readers_both_see_every_event(here: World) -> None:
    assert here.connector.allows_two_readers
    older, newer = await here.connect(), await here.connect()
    await here.until_readers(2)
    sent = here.emit(20)
    assert bodies(await frames(older, 20)) == bodies(await frames(newer, 20)) == sent
    await older.leave()
    later = here.emit(5)
    assert bodies(await frames(newer, 5)) == later
    await older.close()
    await newer.close()


async def test_other_instances_events_do_not_come(here: World) -> None:
    connection = await here.connect()
    await here.until_readers(1)
    assert [event.readers for event in here.send(3, name="somebody-else")] == [0, 0, 0]
    sent = here.emit()
    assert bodies(await frames(connection, 1)) == sent
    await connection.close()


@pytest.mark.parametrize("gateway", ["waha", "baileys"])
async def test_a_gateways_pings_are_answered_and_are_signs_of_life(gateway: str) -> None:
    """WAHA throws out whoever has not answered the last ping by the time of the next."""
    async with world(gateway, ping_s=0.02) as here:
        connection = await here.connect()
        assert await signs_of_life(connection, 12) == 12
        sent = here.emit()
        assert bodies(await frames(connection, 1)) == sent
        await connection.close()


async def signs_of_life(connection: Connection, wanted: int) -> int:
    """How many come, of so many, before the connection is gone or a frame comes."""
    with anyio.fail_after(PATIENCE_S), suppress(ConnectionClosed):
        for count in range(wanted):
            if await connection.receive() is not None:
                return count
        return wanted
    return 0


async def test_a_ping_of_ours_never_hurts(here: World) -> None:
    connection = await here.connect()
    await connection.ping()
    sent = here.emit()
    assert bodies(await frames(connection, 1)) == sent
    await connection.leave()
    await until_closed(connection)
    with pytest.raises(ConnectionClosed):
        await connection.ping()
    await connection.close()


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("gateway", ["waha", "baileys"])
async def test_a_ping_after_our_goodbye_spoils_nothing(gateway: str, is_tls: bool) -> None:
    """No frame may follow a close frame."""
    async with world(gateway, is_tls=is_tls) as here:
        connection = await here.connect()
        await here.until_readers(1)
        await connection.leave()
        await connection.ping()
        found, closed = await until_closed(connection)
        assert (found, closed.reason) == ([], CloseReason.LEFT)
        await connection.close()


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_ping_of_ours_is_answered_where_a_client_may_ask(is_tls: bool) -> None:
    async with world("waha", is_tls=is_tls) as here:
        connection = await here.connect()
        await connection.ping()
        with anyio.fail_after(PATIENCE_S):
            assert await connection.receive() is None
        await connection.close()


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (1000, "", CloseReason.SERVER_LEFT),
        (1001, "", CloseReason.SERVER_LEFT),
        (1012, "service restart", CloseReason.SERVER_LEFT),
        (1008, "Unauthorized", CloseReason.UNAUTHORIZED),
        (1008, "Forbidden", CloseReason.UNAUTHORIZED),
        (1008, "replaced by another connection", CloseReason.REPLACED),
        (4001, "Conflict", CloseReason.REPLACED),
        (1011, "", CloseReason.BROKEN),
        (1009, "", CloseReason.PROTOCOL),
    ],
)
async def test_a_close_frame_has_a_reason(code: int, text: str, reason: CloseReason) -> None:
    async with world("waha") as here:
        connection = await here.connect()
        sent = here.emit(3)
        here.fake.close_streams(NAME, code, text)
        found, closed = await until_closed(connection)
        assert (bodies(found), closed.reason) == (sent, reason)
        assert_tells_nothing(closed)
        await here.until_readers(0)
        await connection.close()


async def test_a_stream_that_ends_properly_was_left_by_its_server() -> None:
    async with world("baileys") as here:
        connection = await here.connect()
        sent = here.emit(3)
        here.fake.close_streams(NAME)
        found, closed = await until_closed(connection)
        assert (bodies(found), closed.reason) == (sent, CloseReason.SERVER_LEFT)
        await connection.close()


async def test_a_reset_breaks_the_stream(here: World) -> None:
    connection = await here.connect()
    sent = here.emit(3)
    assert bodies(await frames(connection, 3)) == sent
    here.reset()
    found, closed = await until_closed(connection)
    assert (found, closed.reason) == ([], CloseReason.BROKEN)
    assert not [word for word in (KEY, NAME, "://") if word in str(closed)]
    with pytest.raises(ConnectionClosed):
        await connection.ping()
    await connection.close()


async def pinging(connection: Connection) -> None:
    with anyio.fail_after(PATIENCE_S):
        while True:
            await connection.ping()
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_ping_into_a_connection_that_is_gone_says_so(is_tls: bool) -> None:
    """Though nobody has read of its end yet."""
    async with world("waha", is_tls=is_tls) as here:
        connection = await here.connect()
        await here.until_readers(1)
        here.reset()
        with pytest.raises(ConnectionClosed) as gone:
            await pinging(connection)
        assert gone.value.reason is CloseReason.BROKEN
        await connection.close()


async def test_a_gateway_that_stops_says_goodbye() -> None:
    for gateway in ("waha", "baileys"):
        async with world(gateway) as here:
            connection = await here.connect()
            sent = here.emit(3)
            here.fake.let_go()
            found, closed = await until_closed(connection)
            assert (bodies(found), closed.reason) == (sent, CloseReason.SERVER_LEFT)
            await connection.close()


async def test_a_second_reader_takes_the_place_of_the_first_where_a_gateway_has_room_for_one() -> None:
    async with world("waha") as here:
        here.fake.streams.is_exclusive = True
        older = await here.connect()
        await here.until_readers(1)
        newer = await here.connect()
        found, closed = await until_closed(older)
        assert (found, closed.reason) == ([], CloseReason.REPLACED)
        sent = here.emit()
        assert bodies(await frames(newer, 1)) == sent
        await older.close()
        await newer.close()


def padded(body: bytes, size: int) -> bytes:
    """The event, made `size` bytes long."""
    event = {**orjson.loads(body), "padding": ""}
    return orjson.dumps({**event, "padding": "x" * (size - len(orjson.dumps(event)))})


async def test_a_frame_of_the_largest_size_comes_whole(here: World) -> None:
    connection = await here.connect()
    await here.until_readers(1)
    largest = padded(here.emit()[0], MAX_FRAME_BYTES)
    here.tell("large", largest)
    await frames(connection, 1)
    assert bodies(await frames(connection, 1)) == [largest]
    await connection.close()
