"""What a stream's trouble looks like from outside: each line says what to do and when it is tried again; that it is over is told too."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.component.rig import now_s, pass_time, until
from tests.component.sockets_world import SocketsWorld, forgets, keeps_events, sockets_world
from worker.adapters.memory_sockets import MemoryGateway
from worker.websocket import patience
from worker.websocket.port import CloseReason, ConnectionClosed
from worker.websocket.sessions import NOT_OPEN_NAMED
from worker.websocket.states import State

pytestmark = pytest.mark.anyio

NO_KEY = ConnectionClosed(CloseReason.UNAUTHORIZED, "401")
NOT_THERE = ConnectionClosed(CloseReason.UNKNOWN_INSTANCE, "404")
AWAY = ConnectionClosed(CloseReason.REFUSED, "nobody listens")


def events(it: SocketsWorld) -> list[str]:
    return [line["event"] for line in it.logs if line["event"].startswith("socket_")]


def not_open(it: SocketsWorld) -> list[dict[str, object]]:
    rows = it.streams.statistics()["not_open"]
    assert isinstance(rows, list)
    return rows


async def refused(it: SocketsWorld, gateway: MemoryGateway, closed: ConnectionClosed) -> None:
    gateway.troubles.refuse = closed
    it.own()
    await it.comes_to(State.WAITING)


# -- lines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [NO_KEY, NOT_THERE])
async def test_a_refusal_names_the_stream_as_its_gateway_does_and_says_when_it_is_tried_again(closed: ConnectionClosed) -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        await refused(it, gateway, closed)
        await until(lambda: len(gateway.connects) == 4, within_s=3_600, what="four tries")
        lines = it.lines("socket_refused")
        assert {(line["instance"], line["gateway_instance"]) for line in lines} == {("i0", "phone-0")}
        times = [at_s for at_s, _ in gateway.connects]
        waited = [later - earlier for earlier, later in pairwise(times)]
        assert [line["again_in_s"] for line in lines[: len(waited)]] == pytest.approx(waited, abs=0.1)


async def test_what_to_do_of_an_instance_that_is_not_there_fits_declared_ones_too() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        await refused(it, gateway, NOT_THERE)
        next_step = it.lines("socket_refused")[0]["next_step"]
        assert "file" in next_step
        assert "DELETE" in next_step


@pytest.mark.parametrize("closed", [NO_KEY, AWAY])
async def test_a_stream_that_reads_again_says_so_once(closed: ConnectionClosed) -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        await refused(it, gateway, closed)
        began_s = now_s()
        await pass_time(200)
        gateway.troubles.refuse = None
        await it.reading()
        it.tell(3)
        await pass_time(60)
        assert events(it).count("socket_reads_again") == 1
        assert events(it)[-1] == "socket_reads_again"
        (line,) = it.lines("socket_reads_again")
        assert (line["instance"], line["gateway_instance"], line["log_level"]) == ("i0", "phone-0", "info")
        assert 200 <= line["unread_s"] <= now_s() - began_s - 60 + 1


async def test_a_quiet_stream_reads_again_once_it_has_held() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        await refused(it, gateway, AWAY)
        gateway.troubles.refuse = None
        await it.reading()
        assert not it.lines("socket_reads_again")
        await pass_time(patience.SETTLED_AFTER_S + 2)
        assert len(it.lines("socket_reads_again")) == 1


async def test_a_gateway_that_opens_and_then_refuses_is_not_taken_for_well() -> None:
    """So does WAHA with a key that is not good: the handshake is answered, then it closes."""
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        for _ in range(4):
            await it.reading()
            gateway.drop(CloseReason.UNAUTHORIZED)
            await it.comes_to(State.WAITING)
        assert events(it) == ["socket_refused"] * 4


async def test_a_start_without_trouble_writes_no_line() -> None:
    async with sockets_world(keeps_events(), instances=20) as it:
        it.own()
        await it.reading()
        it.tell(3)
        await pass_time(60)
        assert events(it) == []


async def test_every_drop_of_an_open_stream_is_told_however_short_it_was() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        for turn in range(12):
            await it.reading()
            it.tell(1)
            await pass_time(1)
            gateway.drop(CloseReason.BROKEN)
            await it.comes_to(State.WAITING)
            assert len(it.lines("socket_lost")) == turn + 1
        assert len(it.lines("socket_reads_again")) == 11


async def test_a_gateway_that_stays_away_is_told_ever_more_seldom() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        await refused(it, gateway, AWAY)
        await pass_time(3_600)
        assert len(gateway.connects) > 50
        assert 5 <= len(it.lines("socket_lost")) <= 9


async def test_of_many_that_read_again_a_few_are_told_and_how_many_more() -> None:
    gateway = forgets()
    async with sockets_world(gateway, instances=300) as it:
        it.own()
        await it.reading()
        it.logs.clear()
        gateway.drop(CloseReason.SERVER_LEFT)
        await it.reading()
        await pass_time(60)
        assert len(it.lines("socket_reads_again")) <= len(it.lines("socket_lost")) <= 50
        assert it.lines("lines_left_out")


# -- status ------------------------------------------------------------------------------------------------------------


async def test_status_names_the_streams_that_are_not_open_with_state_reason_and_since_when() -> None:
    gateway = forgets()
    async with sockets_world(gateway, instances=3) as it:
        it.own()
        await it.reading()
        assert not_open(it) == []
        gateway.troubles.refuse = NOT_THERE
        gateway.drop(CloseReason.BROKEN, name="phone-1")
        await it.comes_to(State.WAITING, "i1")
        await until(lambda: bool(it.lines("socket_refused")), within_s=100, what="refused")
        (row,) = not_open(it)
        assert (row["instance"], row["gateway"], row["state"], row["reason"]) == ("i1", "generic", "waiting", "unknown_instance")
        dropped_s = row["since_s"]
        await pass_time(100)
        (row,) = not_open(it)
        assert row["since_s"] == pytest.approx(dropped_s + 100, abs=0.2)  # type: ignore[operator]
        gateway.troubles.refuse = None
        await it.reading()
        await pass_time(1)
        assert not_open(it) == []


async def test_status_names_a_stream_that_fell_silent_since_it_was_heard() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        it.own()
        await it.reading()
        gateway.troubles.is_hushed = True
        await it.comes_to(State.SILENT, within_s=patience.SILENT_AFTER_S + 5)
        (row,) = not_open(it)
        assert (row["state"], row["reason"]) == ("silent", "silent")
        assert row["since_s"] >= patience.SILENT_AFTER_S  # type: ignore[operator]


async def test_status_names_the_worst_few_of_many_longest_first() -> None:
    gateway = forgets()
    async with sockets_world(gateway, instances=40) as it:
        it.own()
        await it.reading()
        await pass_time(15)
        gateway.troubles.refuse = AWAY
        for number in range(40):
            gateway.drop(CloseReason.BROKEN, name=f"phone-{number}")
            await pass_time(1)
        rows = not_open(it)
        assert [row["instance"] for row in rows] == [f"i{number}" for number in range(NOT_OPEN_NAMED)]
        assert {row["reason"] for row in rows} <= {"broken", "refused"}


async def test_a_stream_that_was_never_tried_has_no_reason_yet() -> None:
    gateway = forgets()
    gateway.troubles.connect_s = 5.0
    async with sockets_world(gateway) as it:
        it.own()
        await pass_time(2)
        (row,) = not_open(it)
        assert (row["state"], row["reason"]) == ("connecting", None)


async def test_whoever_leaves_by_our_will_is_not_named() -> None:
    gateway = forgets()
    async with sockets_world(gateway) as it:
        await refused(it, gateway, AWAY)
        it.abort()
        await pass_time(1)
        assert not_open(it) == []
