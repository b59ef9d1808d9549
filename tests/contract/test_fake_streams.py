"""The fake gateway's streams themselves: who hears of what, what is lost and what is kept, and a person's way to make trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import anyio
import pytest

from tests.contract.connection_worlds import KEY, NAME, PATIENCE_S, FakeWorld, bodies, frames, refusal, until_closed, world
from worker.fake_gateway.baileys_events import BaileysStream
from worker.fake_gateway.server import Plan, fake_gateway
from worker.websocket.port import CloseReason

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def told(here: FakeWorld) -> AsyncIterator[aiohttp.ClientSession]:  # noqa: TID251 - a person
    """As a person tells it, by HTTP."""
    async with aiohttp.ClientSession(here.fake.url) as session:  # noqa: TID251 - a person
        yield session


async def test_what_nobody_reads_is_lost_by_waha_and_it_says_so() -> None:
    async with world("waha") as here:
        assert [event.readers for event in here.send(3)] == [0, 0, 0]
        connection = await here.connect()
        await here.until_readers(1)
        heard = here.send(2)
        assert [event.readers for event in heard] == [1, 1]
        assert bodies(await frames(connection, 2)) == [event.body for event in heard]
        await connection.close()


async def test_what_nobody_reads_is_kept_by_baileys_until_it_is_acknowledged() -> None:
    async with world("baileys") as here:
        sent = here.send(3)
        assert [event.readers for event in sent] == [0, 0, 0]
        stream = here.fake.stream
        assert isinstance(stream, BaileysStream)
        assert stream.unacknowledged(NAME) == [event.id for event in sent]
        connection = await here.connect()
        await connection.acknowledge([sent[1].id])
        assert stream.unacknowledged(NAME) == [sent[0].id, sent[2].id]
        stream.forget()
        assert stream.unacknowledged(NAME) == []
        await connection.close()


async def test_who_comes_by_another_door_is_told_from_the_others() -> None:
    async with world("baileys") as here:
        stream = here.fake.stream
        assert isinstance(stream, BaileysStream)
        door, [sent] = int(here.fake.url.rpartition(":")[2]), here.send(1)
        connection = await here.connect()
        await here.until_readers(1)
        assert [reader.door for reader in here.fake.streams.of(NAME)] == [door]
        assert stream.receipts == {}
        await connection.acknowledge([sent.id])
        await connection.acknowledge([sent.id, "unknown"])
        assert stream.receipts == {door: 3}
        await connection.close()


@pytest.mark.parametrize(
    ("query", "hears"),
    [
        ({"session": NAME}, {"message", "message.ack"}),
        ({"session": "*"}, {"message", "message.ack"}),
        ({}, {"message", "message.ack"}),
        ({"session": NAME, "events": "message.ack"}, {"message.ack"}),
        ({"session": NAME, "events": "state.change,message"}, {"message"}),
        ({"session": "another"}, set[str]()),
    ],
)
async def test_wahas_socket_takes_what_its_query_asks_for(query: dict[str, str], hears: set[str]) -> None:
    async with world("waha") as here, told(here) as person, person.ws_connect("/ws", params={**query, "X-API-KEY": KEY}) as socket:
        with anyio.fail_after(PATIENCE_S):
            while not any(reader.is_heard for reader in here.fake.streams):
                await anyio.lowlevel.checkpoint()
        sent = here.send(60)
        here.fake.close_streams(NAME)
        for reader in here.fake.streams:
            reader.close()
        heard = [message.json()["event"] async for message in socket]
        assert set(heard) == hears
        assert len(heard) == sum(event.readers for event in sent)


async def test_a_gateway_that_refuses_connections_keeps_those_it_has() -> None:
    async with world("waha") as here:
        connection = await here.connect()
        await here.until_readers(1)
        await here.fake.refuse()
        assert (await refusal(here.connector)).reason is CloseReason.REFUSED
        sent = here.emit()
        assert bodies(await frames(connection, 1)) == sent
        url = here.fake.url
        await here.fake.accept()
        assert here.fake.url == url
        again = await here.connect()
        await again.close()
        await connection.close()


async def test_a_silent_gateway_hears_nothing_counts_nobody_and_takes_new_readers() -> None:
    async with world("waha", ping_s=0.01) as here:
        deaf = await here.connect()
        await here.until_readers(1)
        here.fake.silence(NAME)
        assert [event.readers for event in here.send(2)] == [0, 0]
        await deaf.ping()
        newer = await here.connect()
        await here.until_readers(1)
        sent = here.emit()
        assert bodies(await frames(newer, 1)) == sent
        await deaf.close()
        await newer.close()


async def test_waha_throws_out_whoever_answers_no_ping() -> None:
    async with world("waha", ping_s=0.02) as here, told(here) as person:
        socket = await person.ws_connect("/ws", params={"x-api-key": KEY}, autoping=False, autoclose=False)
        with anyio.fail_after(PATIENCE_S):
            kinds = [message.type async for message in socket]
        assert kinds == [aiohttp.WSMsgType.PING]
        await socket.close()


@pytest.mark.parametrize("gateway", ["waha", "baileys"])
async def test_a_person_emits_and_makes_trouble(gateway: str) -> None:
    async with world(gateway) as here, told(here) as person:
        assert await emitted(person, 2) == {"sent": 2, "unread": 2}
        connection = await here.connect()
        await here.until_readers(1)
        assert await emitted(person, 3) == {"sent": 3, "unread": 0}
        async with person.get("/_fake/streams") as answer:
            assert await answer.json() == {"readers": {NAME: 1}}
        async with person.post("/_fake/streams", json={"instance": NAME, "do": "close", "code": 1001}) as answer:
            assert (answer.status, await answer.json()) == (200, {"readers": 1})
        found, closed = await until_closed(connection)
        assert (len(found), closed.reason) == (5 if gateway == "baileys" else 3, CloseReason.SERVER_LEFT)
        await connection.close()


@pytest.mark.parametrize(("way", "reason"), [("drop", CloseReason.BROKEN), ("close", CloseReason.UNAUTHORIZED)])
async def test_a_person_ends_streams(way: str, reason: CloseReason) -> None:
    async with world("waha") as here, told(here) as person:
        connection = await here.connect()
        await here.until_readers(1)
        async with person.post("/_fake/streams", json={"instance": NAME, "do": way, "code": 1008}) as answer:
            assert answer.status == 200
        assert (await until_closed(connection))[1].reason is reason
        async with person.post("/_fake/streams", json={"instance": NAME, "do": "silence"}) as answer:
            assert (answer.status, await answer.json()) == (200, {"readers": 0})


@pytest.mark.parametrize("said", [{"do": "dance"}, {"do": "close", "code": 7}, {"do": "close", "code": "x"}])
async def test_nonsense_is_refused(said: dict[str, object]) -> None:
    async with world("waha") as here, told(here) as person, person.post("/_fake/streams", json={"instance": NAME, **said}) as answer:
        assert answer.status == 400


async def emitted(person: aiohttp.ClientSession, count: int) -> object:  # noqa: TID251 - a person
    async with person.post("/_fake/emit", json={"instance": NAME, "count": count}) as answer:
        return await answer.json()


@pytest.mark.parametrize("gateway", ["evolution", "wuzapi"])
async def test_a_gateway_without_a_stream_emits_nothing(gateway: str) -> None:
    async with fake_gateway(Plan(gateway=gateway)) as fake:
        fake.instances.make(NAME)
        with pytest.raises(KeyError):
            fake.emit(NAME)
        async with (
            aiohttp.ClientSession(fake.url) as person,  # noqa: TID251 - a person
            person.post("/_fake/emit", json={"instance": NAME}) as answer,
        ):
            assert answer.status == 404


async def test_nobody_by_that_name() -> None:
    async with world("waha") as here, told(here) as person, person.post("/_fake/emit", json={"instance": "nobody"}) as answer:
        assert answer.status == 404
